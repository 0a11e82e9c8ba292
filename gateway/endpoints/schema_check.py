"""A JSON schema that a client sends along: refused where no model could follow it, or following it could never end."""

from __future__ import annotations

import re
import warnings
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from wire.errors import InvalidRequest

SCHEMA_BYTES_MAX = 256 * 1024
"""Of one schema, so that its Python objects stay within some megabytes."""
SCHEMA_DEPTH_MAX = 64
SCHEMA_NODES_MAX = 50_000
"""Of all schemas of a request together: they are walked on the event loop, where everybody waits meanwhile."""
PATTERN_CHARS_MAX = 1_000
PATTERNS_CHARS_MAX = 10_000
"""Of all patterns of a request that differ: each must be compiled to know whether it is one, and so many take a tenth
of a second, in which the gateway serves nobody else."""

_TOKEN = re.compile(
    r"""\\u\{(?P<point>[0-9A-Fa-f]{1,6})\} | \\u(?P<unit>[0-9A-Fa-f]{4}) | \\x(?P<byte>[0-9A-Fa-f]{2})
    | (?P<property>\\[pP]\{[\w=]{1,64}\}) | (?P<control>\\c[A-Za-z]) | \\k<(?P<again>\w+)>
    | (?P<class>-?\\[dDsSwW]-?) | (?P<one>\\(?![aAbBfnrtvZ])[A-Za-z] | [^\x00-\x7f]) | (?P<escape>\\.)
    | (?P<group>\(\?<(?=[A-Za-z_])) | (?P<behind>\(\?<(?=[=!])) | (?P<flags>\(\?[A-Za-z-]+(?::|(?=\))))""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
"""What ECMAScript, whose expressions JSON schemas hold, and Python spell differently; and flags, which most others
know."""
_Kind = Literal["schema", "schemas", "data"]
"""What a part of a schema is: one itself, several by names of anybody's choice, or none, whatever it looks like."""
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("$defs", "definitions", "dependentSchemas", "patternProperties", "properties"), "schemas"),
    **dict.fromkeys(("const", "default", "enum", "example", "examples"), "data"),
}
"""Of keywords; what others have is taken for a schema."""


class InvalidSchema(InvalidRequest):
    """The JSON schema cannot be used."""

    code = "invalid_value"


class SchemaChecks:
    """Checks the schemas of one request, which share one limit."""

    def __init__(self) -> None:
        self._seen = 0
        self._patterns: set[str] = set()
        self._pattern_chars = 0

    def check(self, raw: msgspec.Raw, param: str, *, null: bool = False) -> None:
        """Raises :class:`InvalidSchema`: too deep, too large, a bad ``pattern``, a ``$ref`` to nowhere or in a circle.

        ``null`` allows null in the place of a schema.
        """
        schema = _decoded(raw, param)
        if schema is None and null:
            return
        if not isinstance(schema, dict | bool):
            raise InvalidSchema("A JSON schema is an object.", param=param)
        references = _References(schema, param)
        todo: list[tuple[Any, int, _Kind]] = [(schema, 1, "schema")]
        while todo:
            node, depth, kind = todo.pop()
            self._seen += 1
            if depth > SCHEMA_DEPTH_MAX:
                raise InvalidSchema(f"The JSON schema is nested deeper than {SCHEMA_DEPTH_MAX} levels.", param=param)
            if self._seen > SCHEMA_NODES_MAX:
                raise InvalidSchema(f"The JSON schemas have more than {SCHEMA_NODES_MAX} parts.", param=param)
            if isinstance(node, dict):
                if kind == "schema":
                    self._check_pattern(node.get("pattern"), param)
                    references.check(node)
                    todo.extend((child, depth + 1, _KINDS.get(name, "schema")) for name, child in node.items())
                else:
                    inner: _Kind = "schema" if kind == "schemas" else "data"
                    todo.extend((child, depth + 1, inner) for child in node.values())
            elif isinstance(node, list):
                todo.extend((child, depth + 1, kind) for child in node)

    def _check_pattern(self, pattern: Any, param: str) -> None:
        if not isinstance(pattern, str) or pattern in self._patterns:
            return  # absent, or no pattern, or one that many fields have
        self._patterns.add(pattern)
        self._pattern_chars += len(pattern)
        if len(pattern) > PATTERN_CHARS_MAX or self._pattern_chars > PATTERNS_CHARS_MAX:
            raise InvalidSchema(
                f"A pattern in the JSON schema has more than {PATTERN_CHARS_MAX} characters, "
                f"or all of them together more than {PATTERNS_CHARS_MAX}.",
                param=param,
            )
        if not _is_expression(pattern):
            raise InvalidSchema("A pattern in the JSON schema is not a regular expression.", param=param)


class _References:
    """Follows every ``$ref``. A recursive schema is fine; references that only lead to one another are not."""

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._good: set[str] = set()

    def check(self, node: dict[str, Any]) -> None:
        passed: set[str] = set()
        # What was followed to its end is not followed again: a chain costs its length, not the square of it.
        while isinstance(reference := node.get("$ref"), str) and reference not in self._good:
            if not reference.startswith("#"):
                raise InvalidSchema("A $ref in the JSON schema points outside of it.", param=self._param)
            if reference in passed:
                raise InvalidSchema("A $ref in the JSON schema leads only to itself.", param=self._param)
            passed.add(reference)
            target = _resolve(self._root, reference)
            if target is None:
                raise InvalidSchema("A $ref in the JSON schema leads nowhere.", param=self._param)
            node = target
        self._good |= passed


def _decoded(raw: msgspec.Raw, param: str) -> Any:
    if len(bytes(raw)) > SCHEMA_BYTES_MAX:
        raise InvalidSchema(f"The JSON schema has more than {SCHEMA_BYTES_MAX} bytes.", param=param)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidSchema("The JSON schema holds a value that cannot be read.", param=param) from None


def _is_expression(pattern: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what a later Python may read otherwise: this is not run
            re.compile(_TOKEN.sub(_as_python, pattern))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _as_python(token: re.Match[str]) -> str:
    """The same shape in Python's spelling. Only the shape is judged, so every far letter may be one near one: Python
    takes milliseconds for each range of them. And a look back may be one ahead, as Python's has a fixed width."""
    found = token.lastgroup or ""
    match found:
        case "class":
            return token[0].replace("-", r"\-")  # beside a class it is itself, and to Python half a range
        case "point" | "unit" | "byte":
            return f"\\x{min(int(token[found], 16), 0x7F):02x}"
        case "one":
            return r"\x7f"
        case "property":
            return r"\w"
        case "control":
            return r"\x00"
        case "again":
            return f"(?P={token[found]})"
        case "group":
            return "(?P<"
        case "behind":
            return "(?"
        case "flags":
            return "(?:"
        case _:
            return token[0]


def _resolve(root: Any, reference: str) -> dict[str, Any] | None:
    node = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = _key(part)
        if isinstance(node, dict) and key not in node:
            key = _key(unquote(part))  # a reference is an address, and not everybody writes it as one
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and len(key) < 10 and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node if isinstance(node, dict) else {} if isinstance(node, bool) else None


def _key(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
