"""Tokens become text without a broken character."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workernode.local.server.steps.detokenizer import Vocabulary, _Windows

if TYPE_CHECKING:
    from pathlib import Path

_state: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def _tokenizer(tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    _state["tokenizer"] = AutoTokenizer.from_pretrained(tiny_folder)


@given(st.text(max_size=40).filter(lambda text: "<|" not in text))  # no special tokens
def test_text_comes_back_whole_and_no_part_ends_inside_a_character(text: str) -> None:
    tokenizer = _state["tokenizer"]
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for detokenizer in (
        Vocabulary(tokenizer).detokenizer([5, 6]),
        _Windows(tokenizer, frozenset(), tokenizer.encode("of", add_special_tokens=False)),
    ):
        parts = [detokenizer.push(token) for token in tokens]
        assert "".join(parts) + detokenizer.flush() == text
        if "\ufffd" not in text:
            assert not any("\ufffd" in part for part in parts)


@given(st.lists(st.integers(3, 511), max_size=40))
def test_any_tokens_make_the_text_that_the_tokenizer_makes_of_them(tokens: list[int]) -> None:
    tokenizer = _state["tokenizer"]
    tokens = [token for token in tokens if token < len(tokenizer)]
    detokenizer = Vocabulary(tokenizer).detokenizer([])
    text = "".join(detokenizer.push(token) for token in tokens) + detokenizer.flush()
    assert text == tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
