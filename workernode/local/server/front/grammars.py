"""Grammars for the steps: JSON mode, JSON schemas, and calls of certain tools, in llguidance's language."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workernode.local.server.front.problem import Problem, unsupported
from workernode.local.server.front.tools import HERMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workernode.local.server.front.tools import ToolFormat

SCHEMA_BYTES_MAX = 256 * 1024
_DEPTH_MAX = 64
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
"""Of strings: those that llguidance knows. It refuses all others, which to JSON Schema are remarks that bind nobody."""
_VALUES = frozenset({"const", "enum", "default", "examples"})
"""What stands there is no schema."""
REMAINDERS_MAX = 20_000
"""A grammar has a state for each remainder that ``multipleOf`` can leave, of all that may hold together: so many take
a tenth of a second to make, in which nobody else is served."""


def of_response_format(asked: dict[str, Any] | None) -> str | None:
    """The grammar that ``response_format`` means, None for plain text. Raises :class:`Problem`."""
    kind = asked.get("type") if asked else "text"
    if asked is None or kind == "text":
        return None
    if kind == "json_object":
        return _of_schema({"type": "object"})
    if kind != "json_schema":
        raise unsupported("response_format", "response_format is text, json_object or json_schema.")
    described = asked.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise Problem("json_schema needs a schema.", param="response_format.json_schema.schema")
    return _of_schema(schema)


def of_tool_choice(choice: Any, tools: list[dict[str, Any]] | None, format_: ToolFormat | None) -> str | None:
    """The grammar of calls that must be made; None if the model is free. Raises :class:`Problem`."""
    if choice in (None, "auto", "none"):
        return None
    known = functions_of(tools)
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        name = choice["function"].get("name")
        known = {name: known[name]} if isinstance(name, str) and name in known else {}
    elif choice != "required":
        raise Problem("tool_choice is none, auto, required or a function.", param="tool_choice")
    if not known:
        raise Problem("tool_choice names no function of tools.", param="tool_choice")
    if format_ is not HERMES:
        raise unsupported("tool_choice", "This model's format of tool calls cannot be forced.")
    variants: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{number}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, name in enumerate(known)
    ]
    schema: dict[str, Any] = variants[0] if len(variants) == 1 else {"anyOf": variants}
    schema["$defs"] = {
        str(number): _moved(_bounded(_parameters(function)), f"#/$defs/{number}")
        for number, function in enumerate(known.values())
    }
    # Its rule is written out, for what stands around the JSON belongs to the text.
    inner = json.dumps(_bounded(schema) | {"x-guidance": _COMPACT}, ensure_ascii=False)
    lark = f'start: "{HERMES.begin}\\n" call "\\n{HERMES.end}"\ncall: %json {inner}\n'
    return json.dumps({"grammars": [{"lark_grammar": lark}]})


def functions_of(tools: list[dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """The functions of a request's tools, by their names."""
    functions = [tool.get("function") for tool in tools or []]
    return {each["name"]: each for each in functions if isinstance(each, dict) and isinstance(each.get("name"), str)}


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    found = function.get("parameters") or {"type": "object"}
    if not isinstance(found, dict):
        raise Problem("A function's parameters are a JSON schema.", param="tools")
    return found


def _moved(schema: Any, place: str) -> Any:
    """A schema that stood by itself and stands at ``place`` now: what refers to its parts leads there."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, place) for name, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = place + reference[1:]
    return moved


_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Else a model may write spaces for ever."""


def _of_schema(schema: dict[str, Any]) -> str:
    return json.dumps({"grammars": [{"json_schema": _bounded(schema) | {"x-guidance": _COMPACT}}]})


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(schema))
    except RecursionError:
        size = SCHEMA_BYTES_MAX + 1
    if size > SCHEMA_BYTES_MAX or _depth(schema) > _DEPTH_MAX:
        raise Problem("The schema is too large or too deep.", param="response_format")
    remainders = 1
    for divisor in _divisors(schema):
        remainders = math.lcm(remainders, divisor)
        if remainders > REMAINDERS_MAX:
            raise Problem("The schema's numbers of multipleOf are too many or too large.", param="response_format")
    bounded: dict[str, Any] = _without_remarks(schema)
    return bounded


def _without_remarks(schema: Any) -> Any:
    """Without the formats that are none of :data:`FORMATS`."""
    if isinstance(schema, list):
        return [_without_remarks(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name in _VALUES else _without_remarks(value)
        for name, value in schema.items()
        if name != "format" or not isinstance(value, str) or value in FORMATS
    }


def _divisors(schema: Any) -> Iterator[int]:
    """The digits of each ``multipleOf`` as one number; zeros at its end make no states."""
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            divisor = node.get("multipleOf")
            if isinstance(divisor, (int, float)) and math.isfinite(divisor):
                yield int("".join(map(str, Decimal(str(divisor)).as_tuple().digits)).rstrip("0") or "1")
        if isinstance(node, (dict, list)):
            todo += node.values() if isinstance(node, dict) else node


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEPTH_MAX:
        depth += 1
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
    return depth
