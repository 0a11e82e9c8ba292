"""A first word with the broker, spoken here because Pulsar's client cannot tell a refusal from a silence.

To the client a wrong token is a connection that breaks, so it tries again until its time is over and then reports
a timeout. The protocol's own first exchange (CommandConnect, answered by CommandConnected or CommandError; see
PulsarApi.proto and "Binary protocol" in Pulsar's documentation) says at once what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import certifi
from _pulsar import Result

from broker.pulsar.failure import PulsarFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.pulsar.address import Address

_CONNECT, _CONNECTED, _ERROR = 2, 3, 14
_PROTOCOL_VERSION = 19
_REFUSALS = {3: Result.AuthenticationError, 4: Result.AuthorizationError}
_ANSWER_BYTES_MAX = 64 * 1024


class Handshake:
    """Introduces this process to a broker and hangs up again."""

    def __init__(self, address: Address, *, token: str | Callable[[], str] | None, tls_trust_certs: str | None) -> None:
        self._address = address
        self._token = token
        self._tls_trust_certs = tls_trust_certs

    async def fault(self, timeout_s: float) -> str | None:
        """Why the broker cannot be reached, or None when one of its hosts lets this process in.

        Raises :class:`PulsarFailure` when it answers and refuses the token.
        """
        fault = ""
        for host, port in self._address.endpoints:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._greet(host, port)
            except TimeoutError:
                fault = f"there is no answer within {timeout_s:g} s"
            except ssl.SSLCertVerificationError as error:
                fault = f"its certificate is not trusted ({error.verify_message})"
            except (OSError, EOFError) as error:
                fault = _why(error)
            else:
                return None
        return fault

    async def _greet(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port, ssl=self._tls())
        try:
            writer.write(_frame(self._hello()))
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > _ANSWER_BYTES_MAX:
                raise EOFError("what answers there is no Pulsar broker")
            _judge(await reader.readexactly(size))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _tls(self) -> ssl.SSLContext | None:
        if not self._address.tls:
            return None
        return ssl.create_default_context(cafile=self._tls_trust_certs or certifi.where())

    def _hello(self) -> bytes:
        connect = _text(1, b"workernode") + _number(4, _PROTOCOL_VERSION)
        if self._token is not None:
            connect += _text(3, self._read_token().encode()) + _text(5, b"token")
        return _number(1, _CONNECT) + _text(_CONNECT, connect)

    def _read_token(self) -> str:
        if not callable(self._token):
            return self._token or ""
        try:
            return self._token()
        except Exception:
            raise PulsarFailure(Result.ErrorGettingAuthenticationData) from None


def _why(error: OSError | EOFError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, asyncio.IncompleteReadError):
        return "the connection was closed without an answer"
    return getattr(error, "strerror", None) or str(error)


def _judge(answer: bytes) -> None:
    """Return when the broker lets us in."""
    command = dict(_fields(answer[4:]))
    if command.get(1) != _ERROR:
        return
    body = command.get(_ERROR, b"")
    error = dict(_fields(body)).get(2) if isinstance(body, bytes) else None
    if error in _REFUSALS:
        raise PulsarFailure(_REFUSALS[error])
    raise EOFError("the broker answered with an error")


def _frame(command: bytes) -> bytes:
    return (len(command) + 4).to_bytes(4, "big") + len(command).to_bytes(4, "big") + command


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and texts of one protocol buffer; what has another wire type ends the reading."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            return


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, at
