"""``fleet local``, which ``./local.sh`` runs once its environment is there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from fleet.local import env_file, hub
from fleet.local.command import in_memory
from fleet.local.machine import Machine, NotEnough, require_disk, require_memory
from fleet.local.model import NoSuchModel, model_of
from fleet.local.trial import _ask
from fleet.start.environment import complete
from tests.fake_hub import fake_hub
from tests.local_model import LocalModel

ROOT = Path(__file__).parent.parent.parent


def prepare(folder: Path, local: LocalModel, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "STAND_IN_DIR": str(local.directory), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "fleet", "local", *arguments]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_a_llamafile_is_tried_and_written_where_start_sh_finds_it(tmp_path: Path) -> None:
    local = LocalModel(tmp_path / "stand-in")
    (tmp_path / ".env.local").write_text("PORT=1234\nNODE_TYPE=remote\n")
    program = Path(local.program("llamafile")["MODEL_PATH"])
    file = program.rename(tmp_path / "a model.llamafile")
    done = prepare(tmp_path, local, str(file))
    assert done.returncode == 0, done.stderr
    assert "It says: 't0 t1 t2 t3 t4 '" in done.stderr
    assert local.left() == []
    written = complete({}, tmp_path)
    assert written["PORT"] == "1234"
    assert (written["NODE_TYPE"], written["LOCAL_ENGINE"]) == ("local", "llamafile")
    assert written["MODEL_PATH"] == str(file)


@pytest.mark.parametrize(
    ("real", "file", "written"),
    [("", "cuda:1", "cuda:1"), ("xpu", "cuda:1", "xpu"), ("", "auto", "cpu"), ("", "", "cpu")],
)
def test_the_device_is_the_one_that_is_wanted_and_not_what_an_earlier_run_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: str, file: str, written: str
) -> None:
    monkeypatch.setenv("DEVICE", real)
    (tmp_path / ".env").write_text(f"DEVICE={file}\n")
    (tmp_path / ".env.local").write_text("DEVICE=mps\n")
    (tmp_path / "a.llamafile").touch()
    done = prepare(tmp_path, LocalModel(tmp_path / "stand-in"), "--no-trial", "a.llamafile")
    assert done.returncode == 0, done.stderr
    assert f"Device: {written} (" in done.stderr
    assert complete({}, tmp_path)["DEVICE"] == written


def test_a_model_that_does_not_come_up_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    local = LocalModel(tmp_path / "stand-in")
    local.say("die", "1\nerror loading model: unknown model architecture: 'new'")
    file = Path(local.program("llamafile")["MODEL_PATH"]).rename(tmp_path / "new.llamafile")
    done = prepare(tmp_path, local, str(file))
    assert done.returncode == 1
    assert "The engine does not know this model's architecture." in done.stderr
    assert not (tmp_path / ".env.local").exists()
    assert local.left() == []


@pytest.mark.parametrize(
    ("endpoints", "answer", "said"),
    [
        (("chat/completions", "completions"), {"choices": [{"message": {"content": "Hi"}}]}, "It says: 'Hi'"),
        (("completions", "embeddings"), {"choices": [{"text": " there"}]}, "It says: ' there'"),
        (("embeddings",), {"data": [{"embedding": [0.6, 0.8]}]}, "It makes vectors of 2 numbers."),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_model_is_tried_at_an_endpoint_that_it_serves(endpoints: Any, answer: Any, said: str) -> None:
    asked = []

    async def ask(method: str, path: str, body: Any, *, wait_s: float) -> Any:
        asked.append((method, path, body["model"]))
        return answer

    engine: Any = SimpleNamespace(details=SimpleNamespace(endpoints=endpoints), ask=ask)
    assert asyncio.run(_ask(engine, "m")) == said
    assert asked == [("POST", f"/v1/{endpoints[0]}", "m")]


@pytest.fixture
def model_on_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The files of a model on a hub, with their sizes; the cache is a directory of the test's own."""
    sizes = {"config.json": 1, "model-1.safetensors": 20, "consolidated.safetensors": 300, "original/params.json": 4000}
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    told = SimpleNamespace(siblings=files, sha="a" * 40, safetensors=SimpleNamespace(parameters={"BF16": 10}))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: told)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return sizes


def test_weights_that_a_model_has_twice_are_counted_and_fetched_once(
    model_on_hub: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Mistral's, and Llama's, which their makers' own programs want in one file."""
    left_out: list[str] = []

    def download(name: str, *, revision: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        left_out.extend(file for file in model_on_hub for pattern in ignore_patterns if fnmatch(file, pattern))
        return f"{name}@{revision}"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.size("someone/model", "main") == (21, 21, "halves", str(tmp_path / "models--someone--model"))
    assert hub.fetch("someone/model", "v2") == "someone/model@v2"
    assert left_out == ["consolidated.safetensors", "original/params.json"]


def test_the_disk_needs_room_for_what_is_not_there_yet(model_on_hub: dict[str, int], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--someone--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model-1.safetensors").write_bytes(b"x" * 20)
    assert hub.size("someone/model", "main")[:2] == (21, 1)


def test_the_hub_is_asked_with_what_stands_in_env_files(tmp_path: Path) -> None:
    local = LocalModel(tmp_path / "stand-in")
    with fake_hub(401, "GatedRepo") as asked:
        lines = (
            "HF_TOKEN=hf_of_the_file",
            "REVISION=v2",
            f"HF_ENDPOINT={asked.url}",
            f"LOCAL_PROGRAM={sys.executable}",
        )
        (tmp_path / ".env").write_text("\n".join(lines))
        done = prepare(tmp_path, local, "someone/model")
    assert done.returncode == 1
    assert "The hub did not give 'someone/model' (GatedRepoError)." in done.stderr
    tokens = [token for path, token in asked.asked if path.startswith("/api/models/someone/model/revision/v2")]
    assert tokens == ["Bearer hf_of_the_file"]


def test_a_name_is_a_file_a_directory_or_a_models_on_the_hub(tmp_path: Path) -> None:
    assert model_of("Qwen/Qwen2.5-0.5B-Instruct").on_hub
    (tmp_path / "m.gguf").write_bytes(b"1234")
    assert (model_of(str(tmp_path / "m.gguf")).engine, model_of(str(tmp_path / "m.gguf")).weights_bytes) == (
        "llama-server",
        4,
    )
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NoSuchModel, match="lacks"):
        model_of(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"12")
    assert model_of(str(tmp_path)).weights_bytes == 2
    for missing in ("/no/such", "./such", "missing.gguf", str(tmp_path / "config.json")):
        with pytest.raises(NoSuchModel):
            model_of(missing)


def test_a_file_keeps_its_name_where_it_is_a_link(tmp_path: Path) -> None:
    """As in the hub's cache, where llama-server would not find the second part beside a file named by its contents."""
    blob, part = tmp_path / "blobs" / "0f1e2d", tmp_path / "snapshots" / "m-00001-of-00002.gguf"
    for file in (blob, part):
        file.parent.mkdir()
    blob.write_bytes(b"1234")
    part.symlink_to(blob)
    model = model_of(str(tmp_path / "blobs" / ".." / "snapshots" / part.name))
    assert (model.path, model.weights_bytes) == (str(part), 4)


def test_the_directory_that_one_is_in_gives_the_model_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LOCAL_PROGRAM": sys.executable}
    argv = [sys.executable, "-m", "fleet", "local", "--no-trial", f"{folder}/."]  # as local.sh makes it of a dot
    subprocess.run(argv, cwd=tmp_path, env=env, check=True, timeout=60)
    assert complete({}, tmp_path)["MODEL_NAME"] == "my-model"


def test_what_does_not_fit_is_said_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(NotEnough, match=r"needs 1048576\.0 GiB on the disk of .*; \d+\.\d are free"):
        require_disk(tmp_path / "not" / "there", 2**50, "It")
    with pytest.raises(NotEnough, match=r"need 2\.0 GiB of memory; 1\.0 are free on a GPU"):
        require_memory(Machine("cuda", "a GPU", 2**30), 2**31)


@pytest.mark.parametrize(
    ("device", "env", "halves", "times"),
    [
        ("cpu", {}, True, 2),
        ("cpu", {"DTYPE": "auto"}, True, 2),
        ("cpu", {"DTYPE": "bfloat16"}, True, 1),
        ("cpu", {"QUANTIZATION": "8bit"}, True, 1),
        ("cpu", {}, False, 1),
        ("cuda", {}, True, 1),
    ],
)
def test_a_processor_needs_memory_for_the_weights_as_it_reckons_with_them(
    device: str, env: dict[str, str], times: int, *, halves: bool
) -> None:
    assert in_memory(5, Machine(device, "it", 2**30), env, halves=halves) == 5 * times


@pytest.mark.parametrize(
    ("config", "halves"),
    [
        ('{"dtype": "bfloat16"}', True),
        ('{"torch_dtype": "float16"}', True),
        ('{"dtype": "float32"}', False),
        ("{}", False),
        ("[]", False),
        ("\xff", False),
    ],
)
def test_a_directory_tells_whether_its_weights_are_halves(tmp_path: Path, config: str, *, halves: bool) -> None:
    (tmp_path / "config.json").write_bytes(config.encode("latin-1"))
    (tmp_path / "model.safetensors").write_bytes(b"12")
    assert model_of(str(tmp_path)).halves == halves


def test_values_with_blanks_and_signs_come_back_as_they_were(tmp_path: Path) -> None:
    values = {"MODEL_PATH": "/a path/of o'brien's, with #and $HOME\\x", "LOCAL_PROGRAM": "o'brien", "DEVICE": "cpu"}
    for _ in range(2):
        env_file.write(tmp_path / ".env.local", values)
    assert complete({}, tmp_path) == values


def test_what_others_may_read_of_the_file_stays_as_it_is(tmp_path: Path) -> None:
    file, link = tmp_path / "kept", tmp_path / ".env.local"
    file.write_text("API_KEY=secret\n")
    file.chmod(0o640)
    link.symlink_to(file)
    env_file.write(link, {"DEVICE": "cpu"})
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert complete({}, tmp_path) == {"API_KEY": "secret", "DEVICE": "cpu"}
    env_file.write(tmp_path / "new", {"DEVICE": "cpu"})
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
