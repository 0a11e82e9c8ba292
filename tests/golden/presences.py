"""Examples of what goes to everyone, or to all gateways: presence, roll calls, backlogs and orders."""

from __future__ import annotations

from msgspec.structs import replace

from tests.golden.sample import AT, GATEWAY, NODE, REQUEST
from wire.backlog import BacklogReport, ModelBacklog
from wire.order import CancelRequest
from wire.presence import Presence, RollCall, RunningRequest

PLAIN = Presence(
    node=NODE,
    name="node-1",
    model="static",
    type="static",
    version="0.1.0",
    state="ready",
    slots=128,
    sent_ms=AT,
    started_ms=AT - 60_000,
)
PRESENCES = {
    "presence": PLAIN,
    "presence.full": replace(
        PLAIN,
        model="org/größe 🦙",
        type="remote",
        state="rate_limited",
        busy=7,
        parked=1,
        service_ms=1234,
        sentence="The provider limits this key until noon.",
        until_ms=AT + 60_000,
        since_ms=AT - 5_000,
        host="host-1",
        running=(RunningRequest(request_id=REQUEST, taken_ms=AT - 1_000),),
        endpoints=("chat/completions", "embeddings"),
        modalities=("text", "image"),
        context_length=128_000,
        continues=True,
        counts=True,
        provider="api.openai.com",
        credential="0123456789abcdef",
        requests_per_min=600,
        tokens_per_min=90_000,
        limited_until_ms=AT + 60_000,
    ),
}
ORDERS = {"order.cancel": CancelRequest(sender="management-0123456789abcdef", request_id=REQUEST)}
ROLL_CALLS = {"roll-call": RollCall(sender=GATEWAY)}
BACKLOGS = {
    "backlog": BacklogReport(
        gateway=GATEWAY,
        sent_ms=AT,
        models=(
            ModelBacklog(model="static", waiting=3, running=128, taken=4567, accepted=4600, oldest_ms=AT - 900),
            ModelBacklog(model="org/größe 🦙", taken=1),
        ),
    )
}
