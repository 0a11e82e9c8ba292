"""The request's body as the upstream gets it: the client's own bytes, with what the provider calls differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wire.errors import InvalidRequest
from workernode.remote.dialects.request import NULL, USAGE_ASKED, Fields, adapt

if TYPE_CHECKING:
    from collections.abc import Set

    from wire.request import Request
    from workernode.remote.dialects.dialect import Adapter

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")


def upstream_fields(request: Request, *, model: str, adapters: Set[Adapter] = frozenset()) -> Fields:
    """Replace ``model``, ask for the usage of a stream, because it is billed, and adapt the names of fields.

    The rest stays byte for byte. Raises :class:`wire.errors.InvalidRequest`.
    """
    fields = _object(request.body, "The body", None)
    fields["model"] = msgspec.Raw(_encoder.encode(model))
    if request.stream:
        fields["stream"] = _TRUE
        if "no-stream-options" in adapters:
            fields.pop("stream_options", None)
        else:
            fields["stream_options"] = _with_usage(fields.get("stream_options"))
    elif fields.get("stream", _FALSE) not in (_FALSE, NULL):
        fields["stream"] = _FALSE
    adapt(fields, adapters, request.endpoint)
    return fields


def as_body(fields: Fields) -> bytes:
    """The fields as JSON."""
    return _encoder.encode(fields)


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or options == NULL:
        return USAGE_ASKED
    fields = _object(options, "stream_options", "stream_options")
    fields["include_usage"] = _TRUE
    return msgspec.Raw(_encoder.encode(fields))


def _object(data: bytes | msgspec.Raw, what: str, param: str | None) -> Fields:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(f"{what} must be a JSON object.", param=param) from None
