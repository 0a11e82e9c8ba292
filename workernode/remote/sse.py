"""Server-sent events, read as they come: bytes in, ``data`` payloads out."""

from __future__ import annotations


class EventTooLarge(Exception):
    """An event of the upstream's stream is larger than allowed."""


class EventParser:
    """Splits a stream of server-sent events, cut anywhere, into the ``data`` of each event.

    Follows the WHATWG rules (any of CR, LF and CRLF ends a line, comments and other fields are skipped, several
    ``data`` lines are one payload), with two exceptions: an event that the end of the stream cuts off is given out by
    :meth:`end`, because providers end their streams without the last empty line; and a field ``error`` is the payload
    ``{"error": …}``, because llama.cpp's server of 2025 wrote its errors so, with ``[DONE]`` after them.

    Of an event at most ``event_bytes_max`` are kept, and one read.
    """

    def __init__(self, *, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._pending = bytearray()
        self._carriage_return = False
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that ``data`` completes. Raises :class:`EventTooLarge`."""
        if not self._begun:
            data = self._without_byte_order_mark(data)
        if self._carriage_return or b"\r" in data:
            data = self._with_line_feeds(data)
        pending = self._pending
        if pending:
            if b"\n\n" not in data and not (data.startswith(b"\n") and pending.endswith(b"\n")):
                return self._keep(data)
            data = bytes(pending) + data
            pending.clear()
        end = data.rfind(b"\n\n")
        if end < 0:
            return self._keep(data)
        if end + 2 < len(data):
            self._keep(data[end + 2 :])
        payloads = []
        for block in data[:end].split(b"\n\n"):
            payload = block[6:] if block.startswith(b"data: ") and b"\n" not in block else _payload(block)
            if payload and not payload.isspace():  # without data it is no event, but a sign of life
                payloads.append(payload)
        return payloads

    def end(self) -> list[bytes]:
        """The payload of an event that was begun and not ended, at the end of the stream."""
        rest, self._pending = bytes(self._pending), bytearray()
        payload = _payload(rest)
        return [payload] if payload and not payload.isspace() else []

    def _keep(self, data: bytes) -> list[bytes]:
        self._pending += data
        if len(self._pending) > self._event_bytes_max:
            raise EventTooLarge
        return []

    def _with_line_feeds(self, data: bytes) -> bytes:
        # A carriage return at the end may be half of a CRLF: it waits for what follows. Until then the line is not
        # ended, so an event whose last line ends with a lone CR comes with the next bytes or the end of the stream.
        if self._carriage_return:
            data = b"\r" + data
        self._carriage_return = data.endswith(b"\r")
        if self._carriage_return:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_byte_order_mark(self, data: bytes) -> bytes:
        start = bytes(self._pending) + data
        if len(start) < 3 and b"\xef\xbb\xbf".startswith(start):
            self._pending[:] = start
            return b""
        self._pending.clear()
        self._begun = True
        return start.removeprefix(b"\xef\xbb\xbf")


def _payload(block: bytes) -> bytes | None:
    lines = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
        elif line == b"data":
            lines.append(b"")
        elif line.startswith(b"error:"):
            return b'{"error":%b}' % line[6:]
    return b"\n".join(lines) if lines else None
