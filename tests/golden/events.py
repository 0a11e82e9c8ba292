"""Examples of events, one of each type at the least."""

from __future__ import annotations

from typing import get_args

from tests.golden.sample import AT, ATTEMPT, BODY, ERROR, GATEWAY, NODE, REQUEST, TAGS, TIMES, USAGE
from wire import codec
from wire.event import (
    PREFIX,
    AcceptedData,
    Event,
    EventType,
    GatewayData,
    GatewayEventType,
    NodeData,
    NodeEventType,
    PromptData,
    RequestData,
    RequestEventType,
    Status,
    Times,
    attempt_event_id,
    charge_id,
    request_event_id,
)
from wire.usage import Usage

# Which event ends as what, and who tells it.
REQUEST_EVENTS: dict[RequestEventType, tuple[Status, str]] = {
    "request.billed": ("answered", "node"),
    "request.failed": ("refused", "node"),
    "request.cost": ("superseded", "node"),
    "request.cancelled": ("cancelled", "gateway"),
    "request.expired": ("expired", "gateway"),
    "request.dead": ("dead", "gateway"),
    "request.abandoned": ("abandoned", "node"),
    "request.replayed": ("answered", "operator"),
    "request.discarded": ("dead", "operator"),
}
SOURCES = {"node": f"/nodes/{NODE}", "gateway": f"/gateways/{GATEWAY}", "operator": "/operators"}


def _request_event_id(kind: RequestEventType, teller: str) -> str:
    if kind == "request.billed":
        return charge_id(REQUEST)
    if teller == "node":
        return attempt_event_id(kind, ATTEMPT)
    return request_event_id(kind, REQUEST) + (f"-{AT}" if teller == "operator" else "")


def _request_event(kind: RequestEventType) -> Event:
    status, teller = REQUEST_EVENTS[kind]
    by_node = teller == "node"
    failed = kind in ("request.failed", "request.dead")
    data = RequestData(
        request_id=REQUEST,
        endpoint="chat/completions",
        model="gpt-4o",
        status=status,
        stream=True,
        attempt_id=ATTEMPT if by_node else None,
        attempt=1,
        usage=USAGE if by_node else Usage(),
        times=TIMES if by_node else Times(received_ms=AT, settled_ms=AT + 306),
        durations=TIMES.durations(),
        finish_reason="stop" if kind == "request.billed" else None,
        error_code=ERROR.code if failed else None,
        message=ERROR.message if failed else None,
        key_id="team-a",
        user_agent="OpenAI/Python 2.0",
        node=NODE if by_node else None,
        node_type="remote" if by_node else None,
        host="host-1" if by_node else None,
        version="0.1.0",
        upstream_model="gpt-4o-2026",
        provider="api.openai.com",
        body_bytes=len(BODY),
        answer_bytes=321,
        n=1,
        max_tokens=4096,
    )
    return _event(kind, _request_event_id(kind, teller), SOURCES[teller], REQUEST, data)


def _node_event(kind: NodeEventType) -> Event:
    limited = kind == "node.rate_limited"
    data = NodeData(
        node=NODE,
        name="node-1",
        model="gpt-4o",
        node_type="remote",
        version="0.1.0",
        host="host-1",
        provider="api.openai.com",
        message="A sentence that says what happened and what to do.",
        error_code="rate_limit_exceeded" if limited else None,
        until_ms=AT + 60_000 if limited else None,
    )
    return _event(kind, f"{kind}-{NODE}-{AT}", f"/nodes/{NODE}", NODE, data)


def _gateway_event(kind: GatewayEventType) -> Event:
    data = GatewayData(
        gateway=GATEWAY, version="0.1.0", since_ms=AT, until_ms=AT + 60_000, refused={"401": 12, "503": 3}
    )
    return _event(kind, f"refusals-{GATEWAY}-{AT}", f"/gateways/{GATEWAY}", GATEWAY, data)


def _tagged_charge() -> Event:
    data = RequestData(
        request_id=REQUEST,
        endpoint="chat/completions",
        model="gpt-4o",
        status="answered",
        usage=USAGE,
        key_id="team-a",
        images=2,
        tags=TAGS,
    )
    return _event("request.billed", charge_id(REQUEST), f"/nodes/{NODE}", REQUEST, data)


def _accepted_event() -> Event:
    data = AcceptedData(gateway=GATEWAY, since_ms=AT, until_ms=AT + 1000, requests=[REQUEST, REQUEST[:-1] + "0"])
    return _event("gateway.accepted", f"accepted-{GATEWAY}-1", f"/gateways/{GATEWAY}", GATEWAY, data)


def _prompt_event() -> Event:
    data = PromptData(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        body_bytes=len(BODY),
        key_id="team-a",
    )
    return _event("request.prompt", f"prompt-{REQUEST}", f"/gateways/{GATEWAY}", REQUEST, data)


def _event(
    kind: EventType,
    event_id: str,
    source: str,
    subject: str,
    data: RequestData | NodeData | GatewayData | AcceptedData | PromptData,
) -> Event:
    return Event(
        id=event_id,
        source=source,
        type=PREFIX + kind,
        time="2025-10-09T08:53:20.306Z",
        subject=subject,
        data=codec.encode_event_data(data),
    )


EVENTS: dict[str, Event] = {
    **{f"event.{kind}": _request_event(kind) for kind in REQUEST_EVENTS},
    **{f"event.{kind}": _node_event(kind) for kind in get_args(NodeEventType)},
    **{f"event.{kind}": _gateway_event(kind) for kind in get_args(GatewayEventType)},
    "event.request.billed.tags": _tagged_charge(),
    "event.gateway.accepted": _accepted_event(),
    "event.request.prompt": _prompt_event(),
}
