"""A JSON schema that a client sends along: refused where no model could follow it, or following it could never end."""

from __future__ import annotations

import re
from typing import Any

from wire.errors import InvalidRequest

SCHEMA_DEPTH_MAX = 64
SCHEMA_NODES_MAX = 20_000
PATTERN_CHARS_MAX = 1_000


class InvalidSchema(InvalidRequest):
    """The JSON schema cannot be used."""

    code = "invalid_value"


def check_schema(schema: Any, param: str) -> None:
    """Raises :class:`InvalidSchema`: too deep, too large, a bad ``pattern``, a ``$ref`` to nowhere or in a circle."""
    if not isinstance(schema, dict | bool):
        raise InvalidSchema("A JSON schema is an object.", param=param)
    todo: list[tuple[Any, int]] = [(schema, 1)]
    seen = 0
    while todo:
        node, depth = todo.pop()
        seen += 1
        if depth > SCHEMA_DEPTH_MAX:
            raise InvalidSchema(f"The JSON schema is nested deeper than {SCHEMA_DEPTH_MAX} levels.", param=param)
        if seen > SCHEMA_NODES_MAX:
            raise InvalidSchema(f"The JSON schema has more than {SCHEMA_NODES_MAX} parts.", param=param)
        if isinstance(node, dict):
            _check_pattern(node.get("pattern"), param)
            _check_reference(schema, node, param)
            todo.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            todo.extend((child, depth + 1) for child in node)


def _check_pattern(pattern: Any, param: str) -> None:
    if not isinstance(pattern, str):
        return  # absent, or a property that happens to be called so
    if len(pattern) > PATTERN_CHARS_MAX:
        raise InvalidSchema(f"A pattern in the JSON schema has more than {PATTERN_CHARS_MAX} characters.", param=param)
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise InvalidSchema("A pattern in the JSON schema is not a regular expression.", param=param) from None


def _check_reference(root: Any, node: dict[str, Any], param: str) -> None:
    """A recursive schema is fine; references that only lead to one another are not."""
    passed: set[str] = set()
    while isinstance(reference := node.get("$ref"), str):
        if not reference.startswith("#"):
            raise InvalidSchema("A $ref in the JSON schema points outside of it.", param=param)
        if reference in passed:
            raise InvalidSchema("A $ref in the JSON schema leads only to itself.", param=param)
        passed.add(reference)
        target = _resolve(root, reference)
        if target is None:
            raise InvalidSchema("A $ref in the JSON schema leads nowhere.", param=param)
        node = target


def _resolve(root: Any, reference: str) -> dict[str, Any] | None:
    node = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node if isinstance(node, dict) else {} if isinstance(node, bool) else None
