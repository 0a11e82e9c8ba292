"""What a model says stays inside the JSON of its chunks, whatever it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXTS = (
    "a\r\nb",
    "a\n\nb",
    "\n\ndata: [DONE]\n\n",
    "data: [DONE]",
    "event: error\ndata: {}\n\n",
    ": ping",
    "a\u2028b\u2029c\u0085d",
    "\x00\x1b[31m",
    "\ufeff",
    "\r",
    '"}]}',
)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_line_breaks_and_ends_in_a_models_output_change_nothing_of_the_stream(place: Place, text: str) -> None:
    answer = await place.stream("before", text, "after")
    *chunks, done = answer.events
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["before", text, "after"]
    assert done == "[DONE]"
    assert answer.body.count(b"\n\n") == 4
    assert answer.body.count(b"\n") == 8
    assert b"\r" not in answer.body
    assert answer.whole
