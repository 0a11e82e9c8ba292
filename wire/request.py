"""A request as it waits in its model's topic."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wire.number import INTEGER_MAX

Endpoint = Literal["chat/completions", "completions", "embeddings"]
"""The path below ``/v1/`` that the body is meant for."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
"""Unix time, or a duration, in milliseconds."""
Id = Annotated[str, msgspec.Meta(min_length=4, max_length=96)]
"""An opaque id. What becomes part of a topic name is checked again by :mod:`wire.topics`."""

TAGS_MAX = 24
TAG_NAME_CHARS_MAX = 64
TAG_VALUE_CHARS_MAX = 128
Tags = Annotated[
    dict[
        Annotated[str, msgspec.Meta(min_length=1, max_length=TAG_NAME_CHARS_MAX)],
        Annotated[str, msgspec.Meta(max_length=TAG_VALUE_CHARS_MAX)],
    ],
    msgspec.Meta(max_length=TAGS_MAX),
]
"""What a request is counted under, beside its key and model: ``{"team": "search"}``."""

HOPS_MAX = 4
"""So many nodes may stand one behind the other."""
CLIENT_ID_CHARS_MAX = 128
"""Of a client's own name for its request."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a request comes from: the client's own name for it, for tracing only, and the nodes that it came through,
    the latest last, where the client is a node of another fleet."""

    client_request_id: Annotated[str, msgspec.Meta(max_length=CLIENT_ID_CHARS_MAX)] | None = None
    via: Annotated[list[Id], msgspec.Meta(max_length=HOPS_MAX)] = []


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="request"):
    """One call of a client: its own bytes as ``body``, and beside them what routing and billing need.

    ``gateway`` is the incarnation whose link gets the answer. ``usage_asked`` tells whether the client wants the
    usage chunk at the end of a stream (``stream_options.include_usage``). ``key_id`` names the API key; the key
    itself never travels. Times are the gateway's clock; a node decides about the deadline by the ``remaining_ms``
    of :class:`wire.control.Go`, not by its own clock. ``images`` counts those that the body shows.
    ``answers`` is how many are generated, where these are not ``n``: of several prompts, or the best of many.
    ``traceparent`` names the gateway's span, as W3C's Trace Context does; whoever cannot read it ignores it.
    """

    request_id: Id
    model: str
    endpoint: Endpoint
    body: bytes
    gateway: Id
    received_ms: Millis
    deadline_ms: Millis
    stream: bool = False
    usage_asked: bool = False
    key_id: str | None = None
    user_agent: str | None = None
    n: int | None = None
    answers: int | None = None
    max_tokens: int | None = None
    origin: Origin | None = None
    images: int | None = None
    tags: Tags = {}
    traceparent: str | None = None

    @property
    def generated(self) -> int:
        """How many answers are generated."""
        return self.answers or self.n or 1
