"""Reading a request's body: bounded in bytes and in time, JSON only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.errors import BodyTooLarge, FleetError, RequestTooSlow, UnsupportedMediaType

if TYPE_CHECKING:
    from starlette.types import Receive

    from process.timers import Timers


class ClientGone(Exception):
    """The client hung up before its request was complete."""


def check_headers(headers: dict[bytes, bytes], bytes_max: int) -> None:
    """Refuse what is no JSON, is compressed, or declares too many bytes, before any of it is read."""
    media = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if media != b"application/json" and not media.endswith(b"+json"):
        raise UnsupportedMediaType
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        # What a few compressed kilobytes unfold to cannot be known before it is too late.
        raise UnsupportedMediaType("Send the body uncompressed.")
    # The parser has seen to it that it is a number of 64 bits, with blanks behind it and zeros before it perhaps.
    if int(headers.get(b"content-length", b"0").strip().lstrip(b"0") or b"0") > bytes_max:
        raise too_large(bytes_max)


async def read_body(
    receive: Receive, headers: dict[bytes, bytes], timers: Timers, *, bytes_max: int, wait_s: float
) -> bytes:
    """The whole body. Raises the errors of :func:`check_headers`, RequestTooSlow, and :class:`ClientGone`."""
    check_headers(headers, bytes_max)
    parts: list[bytes] = []
    size, more = 0, True
    try:
        with timers.limit(wait_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > bytes_max:
                    raise too_large(bytes_max)
                more = message.get("more_body", False)
    except TimeoutError:
        raise RequestTooSlow from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(bytes_max: int) -> FleetError:
    """The error for a body above the limit."""
    return BodyTooLarge(f"The request's body is larger than {bytes_max} bytes.")
