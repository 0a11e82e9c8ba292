"""Tokens become text without a broken character."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workernode.local.server.steps.detokenizer import Vocabulary, _Windows
from workernode.local.server.token_bytes import bytes_of_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from workernode.local.server.steps.detokenizer import Detokenizer

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
        _Windows(tokenizer, frozenset(), tokenizer.encode("of", add_special_tokens=False), {}),
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


@pytest.fixture(scope="module")
def of_bytes() -> Any:
    """A tokenizer of SentencePiece's kind: what has no token of its own is written as its bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581there", "a"]
    made = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, [], byte_fallback=True))
    made.add_special_tokens([AddedToken("[/INST]", special=True), AddedToken("[TOOL_CALLS]", special=True)])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def written(detokenizer: Detokenizer, tokens: list[int]) -> str:
    return "".join(detokenizer.push(token) for token in tokens) + detokenizer.flush()


@pytest.mark.parametrize("before", ["a", "\U0001f44d", "\U0001f44d\U0001f3fd", "\u65e5\u672c", "a\u00fc\u65e5"])
def test_a_prompt_that_is_cut_inside_a_character_spoils_no_answer(of_bytes: Any, before: str) -> None:
    def tokens(text: str) -> list[int]:
        return [byte + 1 for byte in text.encode()]

    prompt = [*tokens(before), of_bytes.convert_tokens_to_ids("[/INST]")]
    answer = [*tokens("\U0001f600"), of_bytes.convert_tokens_to_ids("\u2581there")]
    assert written(Vocabulary(of_bytes).detokenizer(prompt), answer) == "\U0001f600 there"


@pytest.mark.parametrize("byte", [0x80, 0xF0, 0xE6])
def test_what_becomes_no_character_is_shown_soon_and_not_read_again_and_again(
    of_bytes: Any, monkeypatch: pytest.MonkeyPatch, byte: int
) -> None:
    """However long it goes on: to read all of it for each token would take minutes."""
    decode, longest = of_bytes.decode, 0

    def noted(tokens: list[int], **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(tokens))
        return decode(tokens, **options)

    monkeypatch.setattr(of_bytes, "decode", noted)
    detokenizer = Vocabulary(of_bytes).detokenizer([2, 3, 4])
    parts = [detokenizer.push(byte + 1) for _ in range(50)]
    assert "".join(parts) + detokenizer.flush() == "\ufffd" * 50
    assert max(map(len, parts)) <= 8
    assert longest <= 16


def test_special_tokens_are_text_where_they_are_asked_for(of_bytes: Any, tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    mark = of_bytes.convert_tokens_to_ids("[TOOL_CALLS]")
    answer = [ord("a") + 1, mark, ord("b") + 1]
    assert written(Vocabulary(of_bytes).detokenizer([]), answer) == "ab"
    assert written(Vocabulary(of_bytes).detokenizer([], {mark}), answer) == "a[TOOL_CALLS]b"
    of_levels = AutoTokenizer.from_pretrained(tiny_folder)
    special = of_levels.all_special_ids[0]
    name = of_levels.convert_ids_to_tokens(special)
    assert written(Vocabulary(of_levels).detokenizer([]), [special]) == ""
    assert written(Vocabulary(of_levels).detokenizer([], [special]), [special]) == name


def test_a_blank_is_a_part_of_its_token(of_bytes: Any) -> None:
    table = bytes_of_tokens(of_bytes.backend_tokenizer)
    assert table[of_bytes.convert_tokens_to_ids("\u2581there")] == b" there"
    assert table[0xE6 + 1] == b"\xe6"
    assert table[of_bytes.convert_tokens_to_ids("[/INST]")] == b"[/INST]"
