"""Examples of requests and dead letters."""

from __future__ import annotations

from msgspec.structs import replace

from tests.golden.sample import AT, BODY, GATEWAY, NODE, REQUEST, TAGS
from wire.dead_letter import DeadLetter
from wire.request import Origin, Request

PLAIN = Request(
    request_id=REQUEST,
    model="gpt-4o",
    endpoint="chat/completions",
    body=BODY,
    gateway=GATEWAY,
    received_ms=AT,
    deadline_ms=AT + 600_000,
)
REQUESTS = {
    "request": PLAIN,
    "request.full": replace(
        PLAIN,
        model="org/größe 🦙",
        body=b"\x00\xff" + BODY,
        stream=True,
        usage_asked=True,
        key_id="team-a",
        user_agent="OpenAI/Python 2.0",
        n=2,
        max_tokens=4096,
    ),
    "request.origin": replace(PLAIN, origin=Origin(client_request_id="trace-1", via=[NODE])),
    "request.completions": replace(
        PLAIN,
        endpoint="completions",
        body=b'{"model":"gpt-4o","prompt":["Once","Twice"],"stream":true}',
        stream=True,
    ),
    "request.traced": replace(PLAIN, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    "request.tags": replace(PLAIN, images=2, tags=TAGS),
    "request.embeddings": replace(
        PLAIN,
        model="embedder",
        endpoint="embeddings",
        body=b'{"model":"embedder","input":[[1,2],[3]],"encoding_format":"base64"}',
    ),
}
DEAD_LETTERS = {
    "dead-letter": DeadLetter(
        request=REQUESTS["request.full"],
        reason="poison",
        message="This request brought down 3 nodes.",
        node=NODE,
        at_ms=AT + 1000,
    )
}
