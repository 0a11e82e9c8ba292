"""Rules between fields, as JSON Schema: what a struct's types do not say, for readers of the OpenAPI document.

They are enforced where bodies are read. What JSON Schema cannot say (``best_of`` against ``n``, which addresses are
public, which expressions are regular) stands in the sentences of our errors alone.
"""

from __future__ import annotations

from typing import Any

from gateway.endpoints.reading import REFUSED_FIELDS

Rule = dict[str, Any]


def when(field: str, value: Rule, then: Rule) -> Rule:
    """``then`` holds for objects whose ``field`` is there and is ``value``."""
    return {"if": {"properties": {field: value}, "required": [field]}, "then": then}


def having(field: str, value: Rule) -> Rule:
    """Objects whose ``field`` is there and is ``value``."""
    return {"properties": {field: value}, "required": [field]}


REFUSED: Rule = {"properties": dict.fromkeys(REFUSED_FIELDS, False)}
STREAM_OPTIONS = when("stream_options", {"type": "object"}, having("stream", {"const": True}))
