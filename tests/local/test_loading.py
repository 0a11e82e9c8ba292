"""A model that cannot be served says why, by kind; one that only embeds does that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.local.batch_of import loaded
from tests.local.server_process import ServerProcess
from workernode.local.server.ending import CannotServe

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
