"""From a model's name to its directory."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from tests.fake_hub import fake_hub
from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read
from workernode.local.server.steps.files import find_folder, sweep

if TYPE_CHECKING:
    from pathlib import Path


def test_a_download_that_fails_in_any_way_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client of HTTP raises is neither the hub's error nor the system's, as where a proxy wants a password."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "hub.example")  # an address without http://
    with pytest.raises(CannotServe) as raised:
        find_folder(read(["--model", "someone/model"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"
    assert raised.value.sentence.startswith("someone/model cannot be downloaded: Request URL is missing")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        *((status, "GatedRepo", "accept its licence there, or set HF_TOKEN.") for status in (401, 403)),
        *((status, "RepoNotFound", "There is no directory some/model, and the hub does not") for status in (401, 404)),
        (401, "", "set HF_TOKEN."),
        (404, "RevisionNotFound", "some/model has no revision v2 on the hub."),
    ],
)
def test_what_the_hub_does_not_give_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, told: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with fake_hub(status, code) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        with pytest.raises(CannotServe) as raised:
            find_folder(read(["--model", "some/model", "--revision", "v2"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"
    assert told in raised.value.sentence


def test_what_can_be_no_name_on_the_hub_is_told_in_a_sentence() -> None:
    with pytest.raises(CannotServe, match="some/where/else cannot be downloaded: Repo id must be") as raised:
        find_folder(read(["--model", "some/where/else"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"


def test_who_gives_it_a_file_is_told_what_serves_that(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(CannotServe, match="is a file and no directory: LOCAL_ENGINE=llama-server serves") as raised:
        find_folder(read(["--model", str(tmp_path / "m.gguf")], {}), lambda *_: None)
    assert raised.value.kind == "model_files"


def test_parts_of_files_that_were_left_behind_are_removed_and_no_others(tmp_path: Path) -> None:
    """As of a node that was killed while it downloaded."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    left, written_to, resumed, whole = (
        blobs / name for name in ("abc.12345678.incomplete", "abc.87654321.incomplete", "abc.incomplete", "abc")
    )
    for file in (left, written_to, resumed, whole):
        file.write_bytes(b"1")
    for file in (left, resumed, whole):
        os.utime(file, (time.time() - 3600,) * 2)
    sweep(tmp_path)
    assert set(blobs.iterdir()) == {written_to, resumed, whole}
    sweep(tmp_path / "not" / "there")
