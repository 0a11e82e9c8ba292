"""Parameters out of range or of the wrong type, and those that no request may set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.endpoints.chat_request import NO_TEMPLATE_VALUES
from gateway.endpoints.reading import REFUSED_FIELDS
from tests.integration.bad_input.rows import CANARY, REFUSED, Row, bad, bad_field, good, with_field

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


ROWS = [
    *bad_field("n", 0, -1, 129, 1.5, True, "1", 10**30),
    *bad_field("max_tokens", 0, -1, 2**31, True, "5", 10**400),
    *bad_field("max_completion_tokens", 0, -1, 2**63, False, []),
    *bad_field("temperature", -0.1, 2.1, True, "0", 1e300),
    bad("temperature_of_1e999_is_refused", with_field('"temperature": 1e999'), "temperature"),
    *bad_field("top_p", -0.1, 1.1, True, "1"),
    *bad_field("top_k", -2, 2**31, True, 1.5),
    *bad_field("min_p", -0.1, 1.1, True),
    *bad_field("presence_penalty", -2.1, 2.1, True, {}),
    *bad_field("frequency_penalty", -2.1, 2.1, True, "0"),
    *bad_field("repetition_penalty", 0, 11, True),
    *bad_field("seed", 2**63, -(2**63) - 1, True, 1.5, "1"),
    *bad_field("logprobs", 1, "true", []),
    *bad_field("top_logprobs", -1, 21, True, 5),
    *bad_field("stop", ["a"] * 17, 5, True, {}),
    bad("a_stop_that_is_a_number_is_refused", good(stop=["a", 1]), "stop[1]"),
    *bad_field("logit_bias", [], {CANARY: 1}, {"5": 101}, {"5": -101}, {"5": True}, {str(i): 1 for i in range(1025)}),
    *bad_field("stream", 1, "true"),
    bad("stream_options_without_stream_is_refused", good(stream_options={"include_usage": True}), "stream_options"),
    *bad_field("user", "x" * 513, 5),
    *(bad(f"{name}_is_refused", good(**{name: CANARY}), name, REFUSED) for name in REFUSED_FIELDS),
    bad("a_refused_field_is_found_in_disguise", with_field('"api\\u005fbase": "CANARY"'), "api_base", REFUSED),
    bad("best_of_of_a_conversation", good(best_of=2), "best_of"),
    *(
        bad(
            f"{name}_for_a_template",
            good(chat_template_kwargs={"thinking": True, name: CANARY}),
            f"chat_template_kwargs.{name}",
            REFUSED,
        )
        for name in NO_TEMPLATE_VALUES
    ),
    bad("chat_template_kwargs_may_not_nest", good(chat_template_kwargs={"a": {}}), "chat_template_kwargs"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_what_a_parameter_cannot_be_is_refused(place: Place, row: Row) -> None:
    await place.refuses(row)
