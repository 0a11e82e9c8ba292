"""From the bytes of a message to a fact that the ledger can store, or to the reason why it cannot. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import msgspec

from management.ledger.failures import failure_of_node, failure_of_request
from store.prices import Use
from wire import codec, nesting
from wire.errors import UndecodableMessage
from wire.event import (
    EVENT_BYTES_MAX,
    PREFIX,
    AcceptedEventType,
    Durations,
    Event,
    GatewayEventType,
    NodeData,
    NodeEventType,
    PromptData,
    PromptEventType,
    RequestData,
    RequestEventType,
)
from wire.event import charge_id as charge_id_of
from wire.number import INTEGER_MAX
from wire.usage import REQUEST_TOKENS_MAX

Reason = Literal[
    "too_large",
    "not_an_event",
    "wrong_data",
    "wrong_time",
    "wrong_id",
    "number_out_of_range",
    "nul",
    "unstorable",
    "too_old",
]
"""Why a message is in quarantine. A closed set of words: a decoder's own sentence may quote what it read."""

BILLED = "request.billed"
QUARANTINED = "node.quarantined"
ACCEPTED = "gateway.accepted"
PROMPT = "request.prompt"
ENDS = (
    BILLED,
    "request.dead",
    "request.failed",
    "request.expired",
    "request.cancelled",
    "request.abandoned",
)
"""What tells the end of a request, the weightiest first: a charge says that it was answered after all, whatever was
told before. The other types tell of attempts, or of what an operator did after the end."""
TIME_MS_MAX = 4_102_444_800_000
"""The year 2100: nothing tells of a later time."""
_CHARGE = charge_id_of("")
_REQUEST_TYPES: frozenset[str] = frozenset(get_args(RequestEventType))
_NODE_TYPES: frozenset[str] = frozenset(get_args(NodeEventType))
_GATEWAY_TYPES: frozenset[str] = frozenset(get_args(GatewayEventType))
_OWN_TYPES: frozenset[str] = frozenset((*get_args(AcceptedEventType), *get_args(PromptEventType)))
KINDS = _REQUEST_TYPES | _NODE_TYPES | _GATEWAY_TYPES | _OWN_TYPES
OTHER = "other"
"""The kind of an event of a type that is not known yet."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Unreadable(Exception):
    """This message is no fact; ``reason`` tells why."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Fact:
    """One event as rows: of ``events`` and, where it tells of them, of ``charges``, ``ends`` and ``nodes``, without
    positions. ``use`` is what an attempt used, charged or not; ``prompt`` a row of ``prompts``, instead of an event;
    ``failure`` what went wrong."""

    event: dict[str, Any]
    charge: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    node: dict[str, Any] | None = None
    use: Use | None = None
    tags: dict[str, str] = field(default_factory=dict)
    prompt: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None

    @property
    def event_id(self) -> str:
        """What makes it the same fact when it is told again."""
        event_id: str = self.event["event_id"]
        return event_id

    @property
    def kind(self) -> str:
        """Its type without the prefix, or ``other`` for one that is not known here: few enough for a metric."""
        return kind_of(self.event["type"]) or OTHER


def kind_of(type_: str) -> str | None:
    """``request.billed`` for ``io.workernode.request.billed``; None for a type that is not known here."""
    kind = type_.removeprefix(PREFIX)
    return kind if kind != type_ and kind in KINDS else None


def fact_of(payload: bytes) -> Fact:
    """Read one message of the results topic. Raises :class:`Unreadable`, and nothing else, for what is no fact."""
    if len(payload) > EVENT_BYTES_MAX:
        raise Unreadable("too_large")
    try:
        # Fields that nobody reads here are not checked by the decoder, but the whole text is stored.
        raw = payload.decode()
        event = codec.decode_event(payload)
    except (UndecodableMessage, UnicodeDecodeError):
        raise Unreadable("not_an_event") from None
    if nesting.is_too_deep(payload):
        raise Unreadable("not_an_event")
    kind = kind_of(event.type)
    row: dict[str, Any] = {
        "event_id": event.id,
        "type": event.type,
        "time_ms": _time_ms(event.time),
        "source": event.source,
        "subject": event.subject,
        "request_id": None,
        "model": None,
        "node": None,
        "key_id": None,
        "raw": raw,
    }
    if event.id.startswith(_CHARGE) and kind != BILLED:
        # It would take the place of a charge that is still to come.
        raise Unreadable("wrong_id")
    try:
        if kind in _REQUEST_TYPES:
            fact = _request_fact(row, kind or "", codec.decode_request_data(event.data))
        elif kind in _NODE_TYPES:
            fact = _node_fact(row, codec.decode_node_data(event.data))
        elif kind in _GATEWAY_TYPES:
            codec.decode_gateway_data(event.data)
            fact = Fact(row)
        elif kind == ACCEPTED:
            codec.decode_accepted_data(event.data)
            fact = Fact(row)
        elif kind == PROMPT:
            fact = _prompt_fact(row, codec.decode_prompt_data(event.data))
        else:
            fact = Fact(row)
    except UndecodableMessage:
        raise Unreadable("wrong_data") from None
    # PostgreSQL has no place for U+0000 in a text, and JSON can write it only like this.
    if ("\\u0000" in raw or "\0" in raw) and _has_nul(fact):
        raise Unreadable("nul")
    return fact


def same_content(raw: str, other: str) -> bool:
    """Whether two stored events tell the same, whatever their whitespace, sender and time."""
    if raw == other:
        return True
    one, two = codec.decode_event(raw.encode()), codec.decode_event(other.encode())
    return _content(one) == _content(two)


def message_of(raw: str | None) -> str | None:
    """What a stored event of a request says in words; None where it says nothing, is gone, or is of another version."""
    try:
        return codec.decode_request_data(codec.decode_event(raw.encode()).data).message if raw else None
    except UndecodableMessage:
        return None


def _content(event: Event) -> tuple[str, str, object]:
    try:
        told = msgspec.json.decode(event.data)
    except msgspec.DecodeError:  # a number beyond all bounds, where our own decoder skips what it does not know
        told = bytes(event.data)
    return event.type, event.subject, told


def _time_ms(text: str) -> int:
    try:
        time_ms = (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError, OverflowError):  # TypeError: it has no zone
        raise Unreadable("wrong_time") from None
    if not 0 <= time_ms < TIME_MS_MAX:
        raise Unreadable("wrong_time")
    return time_ms


def _request_fact(row: dict[str, Any], kind: str, data: RequestData) -> Fact:
    for number in (data.attempt, data.body_bytes, data.answer_bytes, data.n, data.max_tokens, data.images):
        if number is not None and not 0 <= number <= INTEGER_MAX:
            raise Unreadable("number_out_of_range")
    used = data.usage
    if max(used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.reasoning_tokens) > REQUEST_TOKENS_MAX:
        raise Unreadable("number_out_of_range")
    row.update(request_id=data.request_id, model=data.model, node=data.node, key_id=data.key_id)
    end = _end(row, kind, data) if kind in ENDS else None
    if kind != BILLED:
        failure = failure_of_request(kind, row, data)
        return Fact(row, end=end, use=_use(row["time_ms"], data) if used.total_tokens else None, failure=failure)
    if row["event_id"] != charge_id_of(data.request_id):
        raise Unreadable("wrong_id")
    charge = _charge(row["time_ms"], data)
    return Fact(row, charge=charge, end=end, use=_use(row["time_ms"], data), tags=data.tags)


def _use(time_ms: int, data: RequestData) -> Use:
    return Use(
        model=data.model,
        provider=data.provider,
        time_ms=time_ms,
        prompt=data.usage.prompt_tokens,
        completion=data.usage.completion_tokens,
        cached=data.usage.cached_tokens,
        reasoning=data.usage.reasoning_tokens,
        images=data.images or 0,
    )


def _prompt_fact(row: dict[str, Any], data: PromptData) -> Fact:
    if not 0 <= data.body_bytes <= INTEGER_MAX:
        raise Unreadable("number_out_of_range")
    prompt = {
        "request_id": data.request_id,
        "time_ms": row["time_ms"],
        "model": data.model,
        "key_id": data.key_id,
        "endpoint": data.endpoint,
        "body": data.body,
        "body_bytes": data.body_bytes,
    }
    return Fact(row, prompt=prompt)


def _end(row: dict[str, Any], kind: str, data: RequestData) -> dict[str, Any]:
    status = kind.partition(".")[2]
    if kind == BILLED:
        # Its client went, and pays for what was generated until then.
        status = "cancelled" if data.status == "cancelled" else "answered"
    return {
        "request_id": data.request_id,
        "rank": ENDS.index(kind),
        "event_id": row["event_id"],
        "status": status,
        "time_ms": row["time_ms"],
        "model": data.model,
        "key_id": data.key_id,
        "node": data.node,
    }


def _charge(time_ms: int, data: RequestData) -> dict[str, Any]:
    times, usage = data.times, data.usage
    durations = data.durations if data.durations != Durations() else times.durations()
    return {
        "request_id": data.request_id,
        "time_ms": time_ms,
        "model": data.model,
        "key_id": data.key_id,
        "node": data.node,
        "endpoint": data.endpoint,
        "status": data.status,
        "stream": data.stream,
        "finish_reason": data.finish_reason,
        "error_code": data.error_code,
        "attempt_id": data.attempt_id,
        "attempt": data.attempt,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": usage.estimated,
        "n": data.n,
        "max_tokens": data.max_tokens,
        "upstream_model": data.upstream_model,
        "provider": data.provider,
        "node_type": data.node_type,
        "host": data.host,
        "version": data.version,
        "user_agent": data.user_agent,
        "body_bytes": data.body_bytes,
        "answer_bytes": data.answer_bytes,
        "received_at_ms": times.received_ms,
        "published_at_ms": times.published_ms,
        "taken_at_ms": times.taken_ms,
        "first_token_at_ms": times.first_token_ms,
        "last_token_at_ms": times.last_token_ms,
        "settled_at_ms": times.settled_ms,
        "publish_ms": durations.publish_ms,
        "queue_ms": durations.queue_ms,
        "first_token_ms": durations.first_token_ms,
        "generation_ms": durations.generation_ms,
        "settle_ms": durations.settle_ms,
        "total_ms": durations.total_ms,
        "images": data.images,
        "tags": msgspec.json.encode(data.tags, order="sorted").decode() if data.tags else None,
    }


def _node_fact(row: dict[str, Any], data: NodeData) -> Fact:
    row.update(model=data.model, node=data.node)
    kind = row["type"].removeprefix(PREFIX)
    failure = failure_of_node(kind, row, data)
    if kind == QUARANTINED:
        # About a message, not about the node: it must not hide what was told of that last.
        return Fact(row, failure=failure)
    node = {
        "node": data.node,
        "name": data.name,
        "model": data.model,
        "node_type": data.node_type,
        "version": data.version,
        "host": data.host,
        "provider": data.provider,
        "first_ms": row["time_ms"],
        "last_ms": row["time_ms"],
        "last_type": kind,
        "message": data.message,
        "error_code": data.error_code,
        "until_ms": data.until_ms,
    }
    return Fact(row, node=node, failure=failure)


def _has_nul(fact: Fact) -> bool:
    rows: tuple[dict[str, Any] | None, ...] = (
        fact.event,
        fact.charge,
        fact.end,
        fact.node,
        fact.prompt,
        fact.tags,
        fact.failure,
    )
    texts = (text for row in rows if row for item in row.items() for text in item)
    return any(isinstance(text, str) and "\0" in text for text in texts)
