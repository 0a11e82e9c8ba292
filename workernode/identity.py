"""Who this node is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NodeType = Literal["static", "remote", "local"]


@dataclass(frozen=True)
class NodeIdentity:
    """``incarnation`` is fresh at every start of the process; ``name`` is what people call the node, ``host`` where it
    runs."""

    incarnation: str
    name: str
    model: str
    type: NodeType
    host: str = ""
