"""How a call of a broker can end, and the errors of :mod:`broker.interface` for it."""

from __future__ import annotations

from enum import Enum, auto

from broker.interface import (
    BrokerError,
    BrokerForbidden,
    BrokerUnavailable,
    PayloadTooLarge,
    SendRejected,
    SendUnknown,
    TopicMissing,
)


class Result(Enum):
    """The names of Pulsar's client library, without the library."""

    Ok = auto()
    AlreadyClosed = auto()
    AuthenticationError = auto()
    AuthorizationError = auto()
    BrokerMetadataError = auto()
    BrokerPersistenceError = auto()
    ChecksumError = auto()
    ConnectError = auto()
    ConsumerBusy = auto()
    ErrorGettingAuthenticationData = auto()
    Interrupted = auto()
    InvalidTopicName = auto()
    LookupError = auto()
    MessageTooBig = auto()
    NotAllowedError = auto()
    NotConnected = auto()
    NotWritten = auto()
    """Ours: it was never given to a connection."""
    ProducerBlockedQuotaExceededError = auto()
    ProducerBlockedQuotaExceededException = auto()
    ProducerBusy = auto()
    ProducerQueueIsFull = auto()
    ReadError = auto()
    ServiceUnitNotReady = auto()
    SubscriptionNotFound = auto()
    Timeout = auto()
    TooManyLookupRequestException = auto()
    TopicNotFound = auto()
    TopicTerminated = auto()
    UnknownError = auto()


FORBIDDEN = {
    Result.AuthenticationError: "the token was not accepted",
    Result.AuthorizationError: "the token gives no permission",
    Result.ErrorGettingAuthenticationData: "the token could not be read",
}

_UNAVAILABLE = {
    Result.Timeout: "no answer came in time",
    Result.ConnectError: "no connection could be made",
    Result.NotConnected: "the connection is lost",
    Result.ReadError: "the connection broke",
    Result.LookupError: "the broker of the topic could not be looked up",
    Result.ServiceUnitNotReady: "the topic is being loaded",
    Result.TooManyLookupRequestException: "too many lookups are under way",
    Result.ProducerBusy: "the topic takes no further producer",
    Result.AlreadyClosed: "it was closed meanwhile",
    Result.BrokerMetadataError: "the broker cannot read its metadata",
    Result.BrokerPersistenceError: "the broker cannot write to its storage",
    Result.UnknownError: "the broker met with an error",
    Result.Interrupted: "the call was interrupted",
}

_SAYS_MORE = {
    Result.BrokerMetadataError,
    Result.BrokerPersistenceError,
    Result.ConnectError,
    Result.LookupError,
    Result.ProducerBusy,
    Result.UnknownError,
}
"""Of these the message tells why: an address that leads nowhere from here, a limit, a policy of the namespace."""

_MISSING = {Result.TopicNotFound, Result.SubscriptionNotFound}

_REFUSED = {
    Result.NotAllowedError: "the broker does not allow it",
    Result.ChecksumError: "it did not arrive as it was sent",
    Result.TopicTerminated: "the topic takes no more messages",
}

_REJECTED = {
    Result.ProducerQueueIsFull,
    Result.ProducerBlockedQuotaExceededError,
    Result.ProducerBlockedQuotaExceededException,
}

TRY_AGAIN = frozenset(
    {
        Result.Timeout,
        Result.ConnectError,
        Result.NotConnected,
        Result.ReadError,
        Result.LookupError,
        Result.ServiceUnitNotReady,
        Result.TooManyLookupRequestException,
        Result.ProducerBusy,
        Result.BrokerMetadataError,
        Result.BrokerPersistenceError,
    }
)
"""Results that a broker gives while it starts or moves a topic, and not when it means no."""

MEANS_NO = frozenset(
    {
        *FORBIDDEN,
        Result.InvalidTopicName,
        Result.NotAllowedError,
        Result.ProducerBlockedQuotaExceededError,
        Result.ProducerBlockedQuotaExceededException,
        Result.TopicNotFound,
        Result.TopicTerminated,
    }
)
"""Results that a broker gives for as long as nobody changes what it may do."""

SILENCE = frozenset({Result.Timeout, Result.ConnectError, Result.NotConnected, Result.ReadError, Result.AlreadyClosed})
"""Results that stand for no answer of a broker."""


class PulsarFailure(Exception):
    """A result that is not Ok. Never leaves this package."""

    def __init__(self, result: Result, message: str = "") -> None:
        super().__init__(f"{result.name} {message}".strip())
        self.result = result
        self.message = message


def explain(failure: PulsarFailure, doing: str) -> BrokerError:
    """The error to raise for ``failure``; ``doing`` says what was tried, with the address."""
    result = failure.result
    if result in FORBIDDEN:
        return BrokerForbidden(f"{doing} was refused: {FORBIDDEN[result]}.")
    if result in _UNAVAILABLE:
        detail = f" ({failure.message})" if result in _SAYS_MORE and failure.message else ""
        return BrokerUnavailable(f"{doing} failed: {_UNAVAILABLE[result]}{detail}.")
    kind = TopicMissing if result in _MISSING else BrokerError
    return kind(f"{doing} failed: {(failure.message or result.name).rstrip('.')}.")


def explain_send(result: Result, topic: str) -> BrokerError:
    """The error to raise for a send to ``topic`` that ended with ``result``."""
    if result in _REJECTED:
        return SendRejected(f"The queue of sends to {topic} is full ({result.name}).")
    if result == Result.MessageTooBig:
        return PayloadTooLarge(f"The broker takes no message of this size on {topic}.")
    if result in FORBIDDEN:
        return BrokerForbidden(f"Sending to {topic} was refused: {FORBIDDEN[result]}.")
    if result in _REFUSED:
        return BrokerError(f"Sending to {topic} was refused: {_REFUSED[result]}.")
    if result == Result.NotWritten:
        return BrokerUnavailable(f"{topic} could not be reached; the message was not sent.")
    # Whatever else went wrong, the bytes had already been given to a connection, and may have arrived.
    return SendUnknown(f"Whether the message reached {topic} is unknown: {_UNAVAILABLE.get(result, result.name)}.")
