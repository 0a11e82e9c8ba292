"""A ``tokenizer.json`` for which each word is a token, and one more begins a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from pathlib import Path


def written(directory: Path) -> str:
    """The path of one that is new there."""
    made = Tokenizer(WordLevel({"[UNK]": 0, "[BOS]": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    made.enable_truncation(2)  # what it says of lengths is for others
    path = str(directory / "tokenizer.json")
    made.save(path)
    return path
