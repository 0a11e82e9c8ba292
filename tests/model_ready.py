"""What a model server's steps tell of a model that does not exist. Its tokens are bytes, and a few special ones."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from workernode.local.server.words import Ready

SPECIAL = ("<s>", "</s>")


def ready(*special: str, **fields: Any) -> Ready:
    """With these special tokens after the usual ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({char: place for place, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in (*SPECIAL, *special)])
    told = Ready(
        tokenizer=made.to_str(),
        special_tokens={"bos_token": "<s>", "eos_token": "</s>"},
        chat_template=None,
        context_length=1000,
        architecture="None",
        dtype="float32",
        device="cpu",
        generates=True,
        embedding_dimensions=4,
        vocabulary=1000,
        max_batch=4,
        row_invariant=True,
    )
    return structs.replace(told, **fields)
