"""How deep JSON is nested, whatever its strings hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.nesting import LEVELS_MAX, is_too_deep

WILD = st.text(st.sampled_from('[]{}"\\x\x00é'))
VALUES = st.recursive(
    WILD | st.integers(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WILD, inner, max_size=4)
)


def levels_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels_of, inner), default=0)


@given(VALUES, VALUES, st.booleans())
def test_one_level_more_than_the_bound_is_too_deep(value: Any, beside: Any, ascii: bool) -> None:
    filled = json.dumps([[]] * LEVELS_MAX).encode()  # so that counting brackets does not tell
    text = b"[%b,%b,%%b]" % (filled, json.dumps(beside, ensure_ascii=ascii).encode())
    more = LEVELS_MAX - 1 - levels_of(value)
    inner = json.dumps(value, ensure_ascii=ascii).encode()
    assert not is_too_deep(text.replace(b"%b", b"[" * more + inner + b"]" * more))
    assert is_too_deep(text.replace(b"%b", b"[" * (more + 1) + inner + b"]" * (more + 1)))


@pytest.mark.parametrize("text", [b"1", b'""', b'"' + b"[" * 1000 + b'"', b"[" + b"[]," * 1000 + b"{}]"])
def test_what_has_few_levels_is_not_too_deep(text: bytes) -> None:
    assert not is_too_deep(text)
