"""Tools and formats of answers whose schemas nobody could follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.bad_input.rows import MISSING, Row, bad, bad_field, deep, good, with_field, with_schema
from tests.raw_http import post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


PARAMETERS = "tools[0].function.parameters"
REF_CHAIN = {f"{i:x}": {"$ref": f"#/$defs/{i + 1:x}"} for i in range(5000)} | {f"{5000:x}": {}}

ROWS = [
    *bad_field("tools", [{"type": "function", "function": {"name": "f"}}] * 10_000, {}, "x"),
    *(
        bad(claim, with_schema(schema), PARAMETERS)
        for claim, schema in {
            "a_schema_200_deep_is_refused": json.loads(deep('{"a":', "}", 200)),
            "a_schema_that_is_a_list_is_refused": [],
            "a_schema_of_1_mb_is_refused": {"description": "x" * 1_000_000},
            "a_bad_pattern_is_refused": {"pattern": "(CANARY"},
            "a_bad_pattern_of_the_property_default_is_refused": {"properties": {"default": {"pattern": "(CANARY"}}},
            "an_example_200_deep_is_refused": {"examples": json.loads(deep('{"a":', "}", 200))},
            "a_long_pattern_is_refused": {"pattern": "a" * 1001},
            "a_ref_to_itself_is_refused": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
            "a_ref_in_a_circle_is_refused": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "a_ref_to_nowhere_is_refused": {"$ref": "#/$defs/CANARY"},
            "a_ref_to_elsewhere_is_refused": {"$ref": "http://127.0.0.1/CANARY"},
            "a_long_chain_of_refs_ends_in_time": {"bad": {"$ref": "#/nowhere"}, "$defs": REF_CHAIN},
        }.items()
    ),
    bad(
        "schemas_with_too_many_parts_are_refused",
        with_schema({"enum": [1] * 20_000}, tools=3),
        "tools[2].function.parameters",
    ),
    bad(
        "many_slow_patterns_end_in_time",
        with_schema([{"pattern": "[^\u0000-\U0010fffe]" * 200}], tools=100),
        PARAMETERS,
    ),
    *bad_field("response_format", "json_object", []),
    bad("a_response_format_without_type_is_refused", good(response_format={}), "response_format.type", MISSING),
    bad("a_response_format_of_a_number_is_refused", good(response_format={"type": 1}), "response_format.type"),
    bad(
        "json_schema_without_schema_is_refused",
        good(response_format={"type": "json_schema", "json_schema": {"name": "n"}}),
        "response_format.json_schema",
        MISSING,
    ),
    bad(
        "json_schema_that_is_null_is_refused",
        good(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": None}}),
        "response_format.json_schema.schema",
    ),
    Row(
        "a_million_keys_in_a_schema_are_refused",
        post(
            with_field(
                '"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {@}}}'
            ).replace(b"@", b",".join(b'"%d":1' % i for i in range(390_000)))
        ),
        param="response_format.json_schema.schema",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_a_schema_that_cannot_be_followed_is_refused(place: Place, row: Row) -> None:
    await place.refuses(row)
