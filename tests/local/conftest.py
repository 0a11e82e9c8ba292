"""The local model server is tested where torch is: in the environment that scripts/local makes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are of this kind."""
    for item in items:
        if "tests/local/" in item.path.as_posix():
            item.add_marker(pytest.mark.local)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, made once."""
    from workernode.local import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.make(folder, context=512)
    return folder
