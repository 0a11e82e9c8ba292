"""The request's body as the upstream gets it: the client's own bytes, with the provider's name of the model."""

from __future__ import annotations

import msgspec

from wire.errors import InvalidRequest

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_NULL = msgspec.Raw(b"null")


def upstream_body(body: bytes, *, model: str, stream: bool) -> bytes:
    """Replace ``model``, and ask for the usage of a stream, because it is billed. The rest stays byte for byte.

    Raises :class:`wire.errors.InvalidRequest`.
    """
    fields = _object(body, "The body", None)
    fields["model"] = msgspec.Raw(_encoder.encode(model))
    if stream:
        fields["stream"] = _TRUE
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    elif fields.get("stream", _FALSE) not in (_FALSE, _NULL):
        fields["stream"] = _FALSE
    return _encoder.encode(fields)


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or options == _NULL:
        return msgspec.Raw(b'{"include_usage":true}')
    fields = _object(options, "stream_options", "stream_options")
    fields["include_usage"] = _TRUE
    return msgspec.Raw(_encoder.encode(fields))


def _object(data: bytes | msgspec.Raw, what: str, param: str | None) -> dict[str, msgspec.Raw]:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(f"{what} must be a JSON object.", param=param) from None
