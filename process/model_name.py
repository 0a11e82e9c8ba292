"""The public name of a node's model where nobody names it."""

from __future__ import annotations

import re

STATIC_MODEL = "static"
_FORMAT = re.compile(r"\.(gguf|llamafile)$")


def model_name(named: str, node_type: str, model_path: str) -> str:
    """``MODEL_NAME`` if it is set; a local model's is else the last part of its path, without a file's format."""
    if node_type == "local":
        return named or _FORMAT.sub("", model_path.rstrip("/").rpartition("/")[2])
    return named or STATIC_MODEL
