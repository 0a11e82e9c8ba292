"""The frames of Pulsar's binary protocol, as far as it is spoken here. Pure.

A frame is ``[size][size of the command][command]``, each size four bytes, and with a message after it
``[size of the metadata][metadata][payload]``. Command and metadata are protocol buffers (PulsarApi.proto and "Binary
protocol" in Pulsar's documentation). The few fields that we use are read and written one by one: the package of the
protocol's classes would weigh more than all of it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from broker.pulsar.failure import PulsarFailure, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL_VERSION = 19
FRAME_BYTES_MAX = 64 * 1024 * 1024
"""What claims to be longer is no frame: a broker takes messages of 5 MiB, where nobody has said otherwise."""

_CHECKSUM = b"\x0e\x01"
_CHECKSUM_BYTES = 6
_SHIFTS = tuple(range(7, 64, 7))
"""Where the seven bits of each further byte of a number belong: it has ten bytes at most, for 64 bits."""


class Command(IntEnum):
    """The number of a command, which is that of its field as well."""

    CONNECT = 2
    CONNECTED = 3
    SUBSCRIBE = 4
    PRODUCER = 5
    SEND = 6
    SEND_RECEIPT = 7
    SEND_ERROR = 8
    MESSAGE = 9
    ACK = 10
    FLOW = 11
    SUCCESS = 13
    ERROR = 14
    CLOSE_PRODUCER = 15
    CLOSE_CONSUMER = 16
    PRODUCER_SUCCESS = 17
    PING = 18
    PONG = 19
    REDELIVER = 20
    LOOKUP = 23
    LOOKUP_RESPONSE = 24
    AUTH_CHALLENGE = 36
    AUTH_RESPONSE = 37


_RESULTS = {
    1: Result.BrokerMetadataError,
    2: Result.BrokerPersistenceError,
    3: Result.AuthenticationError,
    4: Result.AuthorizationError,
    5: Result.ConsumerBusy,
    6: Result.ServiceUnitNotReady,
    7: Result.ProducerBlockedQuotaExceededError,
    8: Result.ProducerBlockedQuotaExceededException,
    9: Result.ChecksumError,
    11: Result.TopicNotFound,
    12: Result.SubscriptionNotFound,
    14: Result.TooManyLookupRequestException,
    15: Result.TopicTerminated,
    16: Result.ProducerBusy,
    17: Result.InvalidTopicName,
    22: Result.NotAllowedError,
}


class Fields(dict[int, "int | bytes"]):
    """The fields of one protocol buffer, numbers and texts; what has another wire type ends the reading."""

    __slots__ = ()

    def __init__(self, data: bytes) -> None:
        super().__init__(_fields(data))

    def number(self, field: int) -> int:
        """A number, 0 where there is none."""
        value = self.get(field, 0)
        return value if isinstance(value, int) else 0

    def text(self, field: int) -> str:
        """A text, empty where there is none."""
        value = self.get(field, b"")
        return value.decode(errors="replace") if isinstance(value, bytes) else ""

    def inner(self, field: int) -> Fields:
        """A protocol buffer in this one, empty where there is none."""
        value = self.get(field, b"")
        return Fields(value if isinstance(value, bytes) else b"")


def refused(code: int, message: str) -> PulsarFailure:
    """A broker's ``ServerError`` as the client library would have reported it."""
    return PulsarFailure(_RESULTS.get(code, Result.UnknownError), message)


def frame(command: Command, body: bytes) -> bytes:
    """A whole frame without a message."""
    base = number(1, command) + text(command, body)
    return (len(base) + 4).to_bytes(4, "big") + len(base).to_bytes(4, "big") + base


def message_frame(command: bytes, metadata: bytes, payload: bytes | bytearray) -> bytes:
    """A whole frame with a message; ``command`` is what :func:`frame` makes of it without its sizes."""
    size = len(command) + len(metadata) + len(payload) + 8
    parts = (
        size.to_bytes(4, "big"),
        len(command).to_bytes(4, "big"),
        command,
        len(metadata).to_bytes(4, "big"),
        metadata,
        payload,
    )
    return b"".join(parts)


def unwrapped(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    """Metadata and payload of the message that lies in ``data`` from ``at`` to ``end``."""
    if data[at : at + 2] == _CHECKSUM:
        at += _CHECKSUM_BYTES  # TCP has its own, and so has the link
    begin = at + 4
    at = begin + int.from_bytes(data[at:begin], "big")
    return data[begin:at], data[at:end]


def in_batch(payload: bytes) -> bytes:
    """One message as it stands in a batch: ``[size of its metadata][its metadata][payload]``."""
    metadata = number(3, len(payload))
    return b"%b%b%b" % (len(metadata).to_bytes(4, "big"), metadata, payload)


def batched(batch: bytes, count: int) -> list[bytes]:
    """The payloads of so many messages that stand in a batch, or of fewer where it ends before; raises
    :class:`IndexError` where it ends in the midst of one's metadata."""
    payloads: list[bytes] = []
    at = 0
    while len(payloads) < count and at < len(batch):
        begin = at + 4
        end = begin + int.from_bytes(batch[at:begin], "big")
        at = end + Fields(batch[begin:end]).number(3)
        payloads.append(batch[end:at])
    return payloads


def varint(value: int) -> bytes:
    """A number, seven bits in each byte, the lowest first."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A field that is a text, or a protocol buffer."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where the next thing begins.

    Raises :class:`IndexError` where ``data`` ends, or the number is longer than any: to read one of a megabyte would
    take minutes.
    """
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value = byte & 0x7F
    for shift in _SHIFTS:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind not in (0, 2):
            return
        value, at = read_varint(data, at)
        if kind == 0:
            yield tag >> 3, value
        else:
            yield tag >> 3, data[at : at + value]
            at += value
