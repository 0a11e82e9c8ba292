"""Which schemas the model server makes grammars of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workernode.local.server.front.grammars import (
    REMAINDERS_MAX,
    SCHEMA_BYTES_MAX,
    functions_of,
    of_response_format,
    of_tool_choice,
)
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tools import HERMES, LLAMA


def made(schema: dict[str, Any]) -> str | None:
    return of_response_format({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})


def schema_of(grammar: str | None) -> Any:
    """What a grammar of forced calls was made of."""
    assert grammar is not None
    lark: str = json.loads(grammar)["grammars"][0]["lark_grammar"]
    return json.loads(lark.partition("%json ")[2])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "multipleOf": 99999999},
        {"type": "number", "multipleOf": 0.99999999},
        {"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 1009}]},
        {"anyOf": [{"multipleOf": number} for number in range(1, 3000, 2)]},
    ],
)
def test_what_would_take_minutes_to_make_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Problem, match="numbers of multipleOf are too many or too large"):
        made(schema)


@pytest.mark.parametrize("divisor", [1, 7, 60, 3600, 0.01, 0.25, 10**12, REMAINDERS_MAX - 1, 1e-9, 0, -5, 2.5e300])
def test_what_people_write_is_taken(divisor: float) -> None:
    assert made({"type": "object", "properties": {"a": {"multipleOf": divisor}, "multipleOf": {"type": "string"}}})


def test_a_format_that_is_not_known_binds_nobody() -> None:
    secret = {"type": "string", "format": "password", "writeOnly": True}
    mixed: dict[str, Any] = {
        "type": "object",
        "properties": {"format": secret, "at": {"type": "string", "format": "date-time"}},
        "anyOf": [{"const": {"format": "path"}}, {"format": "uuid4"}],
    }
    expected = {
        "type": "object",
        "properties": {
            "format": {"type": "string", "writeOnly": True},
            "at": {"type": "string", "format": "date-time"},
        },
        "anyOf": [{"const": {"format": "path"}}, {}],
    }
    formed = json.loads(made(mixed) or "")["grammars"][0]["json_schema"]
    assert {name: formed[name] for name in mixed} == expected
    forced = of_tool_choice("required", [{"function": {"name": "f", "parameters": mixed}}], HERMES)
    assert schema_of(forced)["$defs"] == {"0": expected}
    assert mixed["properties"]["format"] is secret, "what was asked stays as it is"


@pytest.mark.parametrize("name", [["f"], {}, None, "g"])
def test_a_call_of_what_is_no_function_of_the_request_is_refused(name: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(Problem, match="tool_choice names no function of tools") as raised:
        of_tool_choice({"type": "function", "function": {"name": name}}, tools, HERMES)
    assert raised.value.param == "tool_choice"


@pytest.mark.parametrize("parameters", [5, True, 1.5, "object", ["a"]])
def test_parameters_of_a_forced_call_that_are_no_schema_are_refused(parameters: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with pytest.raises(Problem, match=r"A function's parameters are a JSON schema\.") as raised:
        of_tool_choice("required", tools, HERMES)
    assert raised.value.param == "tools"


@pytest.mark.parametrize("function", [{}, {"parameters": None}, {"parameters": {}}])
def test_a_function_without_parameters_is_called_with_any_object(function: dict[str, Any]) -> None:
    grammar = of_tool_choice("required", [{"type": "function", "function": {"name": "f", **function}}], HERMES)
    assert schema_of(grammar)["$defs"] == {"0": {"type": "object"}}


@pytest.mark.parametrize("asked", [None, {}, {"type": "text"}, {"type": "text", "json_schema": {"schema": {}}}])
def test_a_text_has_no_form(asked: Any) -> None:
    assert of_response_format(asked) is None


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"type": "regex"}, "unsupported_parameter", "response_format"),
        ({"type": None, "json_schema": {"schema": {}}}, "unsupported_parameter", "response_format"),
        *(
            ({"type": "json_schema", "json_schema": described}, "invalid_value", "response_format.json_schema.schema")
            for described in (None, 5, {}, {"schema": None}, {"schema": True})
        ),
    ],
)
def test_a_form_that_is_not_known_is_refused(asked: Any, code: str, param: str) -> None:
    with pytest.raises(Problem) as raised:
        of_response_format(asked)
    assert (raised.value.code, raised.value.param) == (code, param)


def test_any_object_is_what_json_mode_asks_for() -> None:
    assert of_response_format({"type": "json_object"}) == made({"type": "object"})


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def test_a_schema_may_be_so_deep_and_so_large_and_no_more() -> None:
    overhead = len(json.dumps({"title": ""}))
    for schema in (_deep(64), {"title": "x" * (SCHEMA_BYTES_MAX - overhead)}):
        assert made(schema)
    for schema in (_deep(65), _deep(100_000), {"title": "x" * (SCHEMA_BYTES_MAX - overhead + 1)}):
        with pytest.raises(Problem, match=r"too large or too deep\."):
            made(schema)


def test_a_call_can_be_forced_in_one_family_only() -> None:
    with pytest.raises(Problem, match="cannot be forced") as raised:
        of_tool_choice("required", [{"type": "function", "function": {"name": "f"}}], LLAMA)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "tool_choice")


@pytest.mark.parametrize("choice", ["any", 5, {}, {"function": 5}, {"type": "function"}, {"type": "allowed_tools"}])
def test_a_choice_that_is_not_known_is_refused(choice: Any) -> None:
    with pytest.raises(Problem, match="tool_choice is none, auto, required or a function"):
        of_tool_choice(choice, [{"type": "function", "function": {"name": "f"}}], HERMES)


def test_what_parameters_refer_to_goes_with_them() -> None:
    """Those of several functions stand in one schema."""
    own = {
        "anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#"}, {"$ref": "https://a.example/#/x"}, {"$ref": "#anchor"}],
        "properties": {"$ref": {"type": "string"}},
        "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}},
    }
    tools = [{"type": "function", "function": {"name": name, "parameters": own}} for name in ("f", "g")]
    both = schema_of(of_tool_choice("required", tools, HERMES))
    assert [each["properties"]["arguments"] for each in both["anyOf"]] == [{"$ref": f"#/$defs/{n}"} for n in (0, 1)]
    assert both["$defs"]["1"] == {
        "anyOf": [
            *({"$ref": "#/$defs/1/$defs/a"}, {"$ref": "#/$defs/1"}, {"$ref": "https://a.example/#/x"}),
            {"$ref": "#anchor"},
        ],
        "properties": {"$ref": {"type": "string"}},
        "$defs": {"a": {"items": {"$ref": "#/$defs/1/$defs/a"}}},
    }
    named = schema_of(of_tool_choice({"type": "function", "function": {"name": "g"}}, tools, HERMES))
    assert named["properties"]["name"] == {"const": "g"}
    assert list(named["$defs"]) == ["0"]


def test_no_form_lets_a_model_write_blanks_for_ever() -> None:
    compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    form = made({"type": "object", "x-guidance": {"whitespace_flexible": True}})
    assert form is not None
    assert json.loads(form)["grammars"][0]["json_schema"] == {"type": "object", "x-guidance": compact}
    forced = of_tool_choice("required", [{"type": "function", "function": {"name": "f"}}], HERMES)
    assert schema_of(forced)["x-guidance"] == compact


def test_what_has_no_name_is_no_function() -> None:
    junk: list[dict[str, Any]] = [
        {},
        {"function": None},
        {"function": {}},
        {"function": {"name": 5}},
        {"function": "f"},
    ]
    assert functions_of([*junk, {"function": {"name": "f"}}]) == {"f": {"name": "f"}}
    assert functions_of(None) == {}
