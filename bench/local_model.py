"""How fast the local server's steps are beside transformers' own: ``$(scripts/local)/bin/python -m bench.local_model``.

Greedy answers of the same length to the same prompts, in one process and one run, in turns: one request after another
with ``generate``, transformers' continuous batching (``generate_batch``, on which ``transformers serve`` is built), and
ours; all without HTTP. Ratios of medians are what counts: a machine is never quiet.
"""

from __future__ import annotations

import datetime
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.local import tiny

if TYPE_CHECKING:
    from collections.abc import Callable

_RESULTS = Path(__file__).parent / "results" / "local_model.json"
_PROMPT_TOKENS = 24
_SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "134M": {
        "layers": 12,
        "hidden": 768,
        "heads": 12,
        "kv_heads": 12,
        "intermediate": 2048,
        "vocabulary": 32_000,
        "context": 2048,
    },
}
_NEW_TOKENS = {"tiny": 48, "134M": 12}
_ROUNDS = {"tiny": 3, "134M": 2}
_CONCURRENT = (1, 8, 32)


def main() -> None:
    """Measure, print, and leave the data behind."""
    import torch
    import transformers

    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()
    before = os.getloadavg()[0]
    found = [each for name in sys.argv[1:] or _SHAPES for each in _measure(name)]
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average_before": before,
        "load_average_after": os.getloadavg()[0],
        "cells": found,
    }
    _RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def _measure(name: str) -> list[dict[str, Any]]:
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        tiny.make(Path(folder), **_SHAPES[name])
        plain = AutoModelForCausalLM.from_pretrained(folder)
        batched = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
        ours = _ours(Path(folder), _NEW_TOKENS[name])
        ways: dict[str, Callable[[list[list[int]]], None]] = {
            "generate": lambda prompts: _generate(plain, prompts, _NEW_TOKENS[name]),
            "generate_batch": lambda prompts: _generate_batch(batched, prompts, _NEW_TOKENS[name]),
            "workernode": ours,
        }
        return [_cell(name, count, ways) for count in _CONCURRENT]


def _cell(name: str, count: int, ways: dict[str, Callable[[list[list[int]]], None]]) -> dict[str, Any]:
    luck = random.Random(count)
    prompts = [[luck.randrange(3, 300) for _ in range(_PROMPT_TOKENS)] for _ in range(count)]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(_ROUNDS[name] + 1):
        for way, run in ways.items():
            began = time.perf_counter()
            run(prompts)
            if number:  # the first round warms up
                rates[way].append(count * _NEW_TOKENS[name] / (time.perf_counter() - began))
    medians = {way: round(statistics.median(each), 1) for way, each in rates.items()}
    cell = {
        "model": name,
        "requests": count,
        "tokens_per_second": medians,
        "least": {way: round(min(each), 1) for way, each in rates.items()},
        "most": {way: round(max(each), 1) for way, each in rates.items()},
        "over_generate": round(medians["workernode"] / medians["generate"], 2),
        "over_generate_batch": round(medians["workernode"] / medians["generate_batch"], 2),
    }
    print(cell, flush=True)
    return cell


def _generate(model: Any, prompts: list[list[int]], tokens: int) -> None:
    import torch

    for prompt in prompts:
        model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )


def _generate_batch(model: Any, prompts: list[list[int]], tokens: int) -> None:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    # Its manager stays, as a server's does, so that its start is not counted.
    found = model.generate_batch(
        prompts,
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=512),
        persistent_manager=True,
        warmup=False,
    )
    assert len(found) == len(prompts)
    assert all(len(each.generated_tokens) == tokens for each in found.values())


def _ours(folder: Path, tokens: int) -> Callable[[list[list[int]]], None]:
    from workernode.local.server.flags import read
    from workernode.local.server.steps.model import load
    from workernode.local.server.words import Sampling, Submit

    threads = os.environ.get("OMP_NUM_THREADS", "0")
    steps = load(read(["--model", str(folder), "--threads", threads], {}), lambda *_: None).steps
    assert steps is not None
    sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)

    def run(prompts: list[list[int]]) -> None:
        for number, prompt in enumerate(prompts):
            steps.submit(Submit(number, prompt, sampling))
        while steps.busy:
            steps.step()

    return run


if __name__ == "__main__":
    main()
