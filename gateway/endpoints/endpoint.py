"""What every endpoint has, so that one reception serves them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from gateway.endpoints.rules import Rule
    from wire.request import Endpoint as Name

Paths = dict[str, type[msgspec.Struct]]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the reception must know of a request. The rest of its body is the node's business."""

    model: str | None
    """As the client named it; None where it named none."""
    stream: bool = False
    usage_asked: bool = False
    n: int | None = None
    answers: int | None = None
    """How many are generated, where these are not ``n``."""
    max_tokens: int | None = None
    images: int = 0
    """How many its prompt shows."""
    tags: dict[str, str] = {}
    """What its ``metadata`` says that can be a tag."""
    plain: bool = False
    """Whether the answer is one streamed choice of plain text: only such a one may be continued by another attempt."""
    body: bytes | None = None
    """What nodes get where the client's own bytes have a form that they do not know."""


class Endpoint(Protocol):
    """One kind of request. Stateless."""

    @property
    def name(self) -> Name:
        """As it travels: the path below ``/v1/`` of the upstream."""

    @property
    def paths(self) -> Paths:
        """The routes that lead here, in Starlette's form, and the fields that are checked there; what else a body holds
        passes untouched."""

    @property
    def rules(self) -> Rule:
        """What JSON Schema can say of a body beyond its fields, for the OpenAPI document."""

    @property
    def summary(self) -> str:
        """What it does, for the OpenAPI document."""

    @property
    def streams(self) -> bool:
        """Whether an answer may be a stream."""

    def parse(self, body: bytes, path: str) -> Asked:
        """Read and check a body that came to ``path``.

        Raises :class:`wire.errors.InvalidRequest` with ``param`` where one field is at fault.
        """
