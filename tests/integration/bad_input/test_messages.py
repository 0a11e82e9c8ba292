"""Messages, the model, and how long the client would wait."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.bad_input.rows import (
    CANARY,
    MISSING,
    MODEL,
    Row,
    bad,
    bad_field,
    good,
    with_headers,
    with_message,
    with_part,
)
from tests.raw_http import JSON, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


MESSAGE = "messages[1]"
PART = f"{MESSAGE}.content[1]"

ROWS = [
    Row(
        "a_deadline_that_is_no_number_is_refused",
        with_headers(*JSON, "x-request-timeout-ms: CANARY"),
        param="x-request-timeout-ms",
    ),
    Row(
        "a_deadline_of_0_is_refused",
        with_headers(*JSON, "x-request-timeout-ms: 0"),
        param="x-request-timeout-ms",
    ),
    Row(
        "a_way_through_something_that_is_no_node_is_refused",
        with_headers(*JSON, "x-workernode-via: CANARY CANARY"),
        param="x-workernode-via",
    ),
    Row(
        "a_way_through_too_many_nodes_is_refused",
        with_headers(*JSON, "x-workernode-via: " + ",".join(f"node-{number}" for number in range(5))),
        code="loop_detected",
    ),
    bad("messages_missing_is_refused", {"model": MODEL}, "messages", MISSING),
    *bad_field("messages", None, [], "CANARY", {}, 1),
    bad("a_message_that_is_a_number_is_refused", good(messages=[1]), "messages[0]"),
    bad("a_message_that_is_null_is_refused", good(messages=[None]), "messages[0]"),
    bad("too_many_messages_are_refused", good(messages=[{"role": "user", "content": "x"}] * 10_001), "messages"),
    bad("an_unknown_role_is_refused", with_message(role=CANARY * 1000, content="x"), f"{MESSAGE}.role"),
    bad("a_role_that_is_a_list_is_refused", with_message(role=["user"], content="x"), f"{MESSAGE}.role"),
    bad("a_message_without_role_is_refused", with_message(content="x"), f"{MESSAGE}.role", MISSING),
    *(
        bad(
            f"a_message_of_{role}_without_content_is_refused",
            with_message(role=role, content=None, tool_call_id="c"),
            f"{MESSAGE}.content",
            MISSING,
        )
        for role in ("system", "developer", "user", "tool")
    ),
    bad("content_that_is_a_number_is_refused", with_message(role="user", content=5), f"{MESSAGE}.content"),
    bad("a_part_without_type_is_refused", with_part(text="x"), f"{PART}.type", MISSING),
    bad(
        "a_tool_message_without_id_is_refused",
        with_message(role="tool", content="x"),
        f"{MESSAGE}.tool_call_id",
        MISSING,
    ),
    bad(
        "tool_calls_that_are_no_list_are_refused",
        with_message(role="assistant", tool_calls="x"),
        f"{MESSAGE}.tool_calls",
    ),
    bad(
        "a_function_call_that_is_a_list_is_refused",
        with_message(role="assistant", function_call=[]),
        f"{MESSAGE}.function_call",
    ),
    bad("model_missing_is_refused", {"messages": good()["messages"]}, "model", MISSING),
    *bad_field("model", None, 5, "", ["a"], "x" * 10_240),
    *(
        Row(f"model_{json.dumps(name)}_is_unknown", post(good(model=name)), 404, "model_not_found", "model")
        for name in (
            "unknown",
            "../x",
            "persistent://a/b/c",
            ".*",
            "a/b",
            "%2e%2e",
            "a\u0000b",
            "\r\nx: y",
            "\u202eabc",
        )
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_what_is_no_conversation_is_refused(place: Place, row: Row) -> None:
    await place.refuses(row)
