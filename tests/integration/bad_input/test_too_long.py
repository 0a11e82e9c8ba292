"""A prompt that is longer than the context: the provider says so, and so do we, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_upstream import Chaos
from tests.integration.bad_input.rows import CANARY, good
from tests.raw_http import exchange, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

ERROR = {
    "message": "This model's maximum context length is 4096 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
TOO_LONG = Chaos(
    status=400, body=json.dumps({"error": ERROR}).encode(), headers=(("content-type", "application/json"),)
)


@pytest.mark.parametrize("options", [{}, {"stream": True}], ids=["whole", "stream"])
async def test_a_prompt_beyond_the_context_is_a_400_and_is_tried_once(place: Place, options: dict[str, Any]) -> None:
    place.upstream.script = [TOO_LONG]
    asked = len(place.upstream.requests)
    answer = await exchange(place.port, post(good(model=place.remote, **options)))
    assert answer.status == 400
    assert answer.error == ERROR
    assert "x-should-retry" not in answer.headers
    assert CANARY not in str(answer)
    assert len(place.upstream.requests) == asked + 1
    await place.serves()
