"""A model that cannot be served says why, by kind; one that only embeds does that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from tests.local.batch_of import loaded
from tests.local.server_process import ServerProcess
from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, config: object, *, weights: bool = True) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


def problem(folder: Path, *flags: str) -> str:
    with pytest.raises(CannotServe) as raised:
        loaded(folder, *flags)
    assert raised.value.sentence.endswith(".")
    return raised.value.kind


def test_each_fault_has_its_kind(tmp_path: Path, tiny_folder: Path) -> None:
    assert problem(tmp_path / "nothing") == "model_files"
    assert problem(tmp_path) == "model_files"
    assert problem(written(tmp_path, {"model_type": "llama"}, weights=False)) == "model_files"
    assert problem(written(tmp_path, {"model_type": "unheard_of"})) == "architecture"
    own_code = {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config"}}
    assert problem(written(tmp_path, own_code)) == "architecture"
    assert problem(tiny_folder, "--device", "cuda:63") == "no_such_device"
    assert problem(tiny_folder, "--device", "abacus") == "no_such_device"
    assert problem(tiny_folder, "--kv-tokens", str(10**12)) == "out_of_memory"
    assert problem(tiny_folder, "--max-context", "100000") == "usage"
    assert problem(tiny_folder, "--quantization", "awq") == "usage"
    assert problem(tiny_folder, "--device", "cpu", "--num-gpus", "2") == "usage"
    assert problem(tiny_folder, "--stream-interval", "0") == "usage"


def test_a_model_that_reckons_long_texts_in_another_way_is_served_up_to_these(
    tmp_path: Path, tiny_folder: Path
) -> None:
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes: Any = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    factors = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    torch.manual_seed(0)
    config = Phi3Config(max_position_embeddings=512, original_max_position_embeddings=64, rope_scaling=factors, **sizes)
    Phi3ForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    assert loaded(tmp_path).ready.context_length == 64
    with pytest.raises(CannotServe, match="more than the model's 64 tokens that are served here"):
        loaded(tmp_path, "--max-context", "128")


def test_a_token_that_the_model_does_not_know_is_refused(tiny_folder: Path) -> None:
    flags = read(["--model", str(tiny_folder)], {})
    tokens = Tokens(structs.replace(loaded(tiny_folder).ready, vocabulary=40), flags)
    assert tokens.of_text("", special=False) == []
    with pytest.raises(Problem, match="a token that this model's tokenizer knows, and the model does not"):
        tokens.of_text("once upon a time")


def test_broken_weights_are_the_files_fault(tmp_path: Path, tiny_folder: Path) -> None:
    for path in tiny_folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert problem(tmp_path) == "model_files"


def test_a_server_that_cannot_go_on_says_so_in_its_last_line(tmp_path: Path) -> None:
    code, line = ServerProcess(tmp_path).ended()
    assert code == 4
    assert line["error"] == "model_files"
    assert "config.json" in line["sentence"]
