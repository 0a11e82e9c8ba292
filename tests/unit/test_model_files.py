"""From a model's name to its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read
from workernode.local.server.steps.files import find_folder

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
