"""How many threads a step of the model server may have in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workernode.local.server.steps.cores import of_container

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("200000 100000", 2), ("250000 100000", 3), ("1000 100000", 1), ("max 100000", None), ("nothing", None)],
)
def test_a_containers_limit_of_time_is_so_many_cores(tmp_path: Path, limit: str, cores: int | None) -> None:
    assert of_container(tmp_path) is None
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert of_container(tmp_path) == cores
