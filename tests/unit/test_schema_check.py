"""Which JSON schemas of a request can be followed: what stands at each limit, and what a part of a schema is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.endpoints.schema_check import (
    PATTERN_CHARS_MAX,
    PATTERNS_CHARS_MAX,
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    SCHEMA_NODES_MAX,
    InvalidSchema,
    SchemaChecks,
)


def check(*schemas: Any) -> None:
    """All of one request."""
    checks = SchemaChecks()
    for schema in schemas:
        checks.check(msgspec.Raw(json.dumps(schema).encode()), "tools")


def refuse(*schemas: Any) -> None:
    with pytest.raises(InvalidSchema):
        check(*schemas)


def test_a_schema_is_as_long_as_may_be() -> None:
    longest = "x" * (SCHEMA_BYTES_MAX - len('{"title": ""}'))
    check({"title": longest})
    refuse({"title": longest + "x"})


@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [('{"not":', "}", 1), ('{"properties":{"a":', "}}", 2), ('{"anyOf":[', "]}", 2), ('{"enum":[', "]}", 2)],
    ids=lambda part: str(part),
)
def test_a_schema_is_as_deep_as_may_be(opening: str, closing: str, levels: int) -> None:
    most = (SCHEMA_DEPTH_MAX - 1) // levels
    check(json.loads(opening * most + "true" + closing * most))
    refuse(json.loads(opening * (most + 1) + "true" + closing * (most + 1)))


def test_all_schemas_of_a_request_have_as_many_parts_as_may_be() -> None:
    half = {"enum": [0] * (SCHEMA_NODES_MAX // 2 - 2)}
    check(half, half)
    refuse(half, half, True)


def test_all_patterns_of_a_request_are_as_long_as_may_be() -> None:
    longest = [{"pattern": chr(ord("a") + number) * PATTERN_CHARS_MAX} for number in range(26)]
    all_of_them = longest[: PATTERNS_CHARS_MAX // PATTERN_CHARS_MAX]
    check(*all_of_them)
    refuse(*all_of_them, {"pattern": "z"})


def test_a_pattern_that_many_fields_have_counts_once_and_is_wrong_in_each() -> None:
    often = {"properties": {f"amount{number}": {"pattern": r"^[+-]?0*\d*\.?\d*$"} for number in range(3000)}}
    check(often, often)
    refuse(often, {"pattern": "("})


@pytest.mark.parametrize("keyword", ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"])
def test_a_schema_may_have_the_name_of_a_keyword_and_is_looked_at(keyword: str) -> None:
    check({keyword: {"pattern": {"type": "string"}, "default": {"pattern": "a+"}}})
    refuse({keyword: {"default": {"pattern": "("}}})


@pytest.mark.parametrize("keyword", ["const", "default", "enum", "example", "examples"])
def test_data_is_no_schema_whatever_it_looks_like(keyword: str) -> None:
    check({keyword: [{"pattern": "(", "items": {"$ref": "elsewhere"}}]})


@pytest.mark.parametrize("reference", ["other.json", "other.json#", "http:", ""])
def test_a_reference_to_another_document_is_refused(reference: str) -> None:
    refuse({"properties": {"a": {"$ref": reference}}})


REFERRED = {
    "title": "it is 0",
    "anyOf": [{"type": "string"}, True],
    "$defs": {"a~b": {}, "c/d": {}, "n": 5, "e%2F": {}},
}


@pytest.mark.parametrize(
    "reference",
    ["#", "#/anyOf/0", "#/anyOf/1", "#/$defs/a~0b", "#/$defs/c~1d", "#/$defs/c~1%64", "#/$defs/e%2F", "#name"],
)
def test_a_reference_leads_through_objects_and_lists(reference: str) -> None:
    check({**REFERRED, "items": {"properties": {"x": {"$ref": reference}}}})


@pytest.mark.parametrize(
    "reference",
    [
        "anyOf/2",
        "anyOf/-1",
        "anyOf/x",
        f"anyOf/{10**400}",
        "anyOf/0/type",
        "title/it",
        "title/0",
        "$defs/n",
        "$defs/n/0",
    ],
    ids=lambda reference: reference[:12],
)
def test_a_reference_to_what_is_no_schema_is_refused(reference: str) -> None:
    refuse({**REFERRED, "items": {"$ref": f"#/{reference}"}})


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)^a+$",  # pydantic's, Go's, Rust's and Java's
        "(?ms).*(?P<n>a)",
        "^(?i:a)b$",
        "(?i-s:a)(?<=a+)b",
        r"(?<!\s*)a",
        r"\Aa\z",
        r"https?\:\/\/\e\_[\c\h]",
        r"^\[[^[]*[[]?[^\]]$",
        r"^[a-zA-Z0-9@#%^&*()_+\-=[\]{}|;:,.<>?~`]*$",
        r"^[\w.-]+\.(?<end>[^\x00-\x1f\u2028]{2,})\k<end>\p{Lu}[\u{1F600}-\u{1F64F}é-ü]$",
    ],
)
def test_an_expression_may_be_any_that_ecmascript_takes_and_have_flags(pattern: str) -> None:
    check({"pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "*a", "a{2,1}", "(?i", "(?<n>a", "[z-a]", "\\", "(" * 499 + ")" * 499, f"a{{{10**20}}}"],
    ids=lambda pattern: pattern[:8],
)
def test_what_is_no_expression_or_too_much_of_one_is_refused(pattern: str) -> None:
    refuse({"pattern": pattern})


def test_a_schema_with_half_of_a_character_is_refused() -> None:
    with pytest.raises(InvalidSchema, match="cannot be read"):
        SchemaChecks().check(msgspec.Raw(b'{"title": "\\ud800"}'), "tools")
