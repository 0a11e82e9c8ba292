"""Which schemas the model server makes grammars of."""

from __future__ import annotations

from typing import Any

import pytest

from workernode.local.server.front.grammars import REMAINDERS_MAX, of_response_format, of_tool_choice
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tools import HERMES


def made(schema: dict[str, Any]) -> str | None:
    return of_response_format({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})


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
    assert grammar is not None
    assert '\\"$defs\\": {\\"0\\": {\\"type\\": \\"object\\"}}' in grammar
