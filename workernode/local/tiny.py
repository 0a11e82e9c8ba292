"""A tiny model with random weights, made on the spot: ``python -m workernode.local.tiny DIR``. It speaks nonsense."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_TEXTS = (
    "The quick brown fox jumps over the lazy dog. ",
    "A worker takes a request when it has a free slot, and the answer comes back word by word. ",
    '{"name": "value", "list": [1, 2, 3], "nested": {"yes": true, "no": false, "none": null}}\n',
    "Größe, Übermut, naïve café, Ελληνικά, Русский, 日本語, 한국어, العربية, 😀🎉👩‍👩‍👧. ",
)
_TEMPLATE = (
    "{%- if tools %}<|im_start|>system\n<tools>{{ tools | tojson }}</tools> Answer with "
    '<tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>\n{%- endif %}'
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int = 128,
    context: int = 4096,
    vocabulary: int = 512,
    seed: int = 0,
    spread: float = 0.3,
    chat: bool = True,
) -> None:
    """Write a Llama of that shape with its tokenizer to ``folder``. ``spread`` is the weights' standard deviation: with
    less of it the answers repeat one token. ``vocabulary`` may exceed what the tokenizer knows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(min(vocabulary, 512), chat=chat)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        initializer_range=spread,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(vocabulary: int, *, chat: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS * 4, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    if chat:
        wrapped.chat_template = _TEMPLATE
    return wrapped


def main() -> None:
    """Write one where the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, value in {"layers": 2, "hidden": 64, "heads": 4, "kv-heads": 2, "intermediate": 128}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in {"context": 4096, "vocabulary": 512, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--spread", type=float, default=0.3)
    parser.add_argument("--no-chat", dest="chat", action="store_false")
    make(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
