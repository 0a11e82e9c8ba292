"""Where the model server listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from workernode.local.server.__main__ import _listen
from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read

if TYPE_CHECKING:
    from pathlib import Path


def test_a_socket_that_was_left_behind_is_taken_and_any_other_file_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "s"
    flags = read(["--model", "m", "--socket", str(place)], {})
    for _ in range(2):
        with _listen(flags) as listener:
            assert listener.family == socket.AF_UNIX
    place.unlink()
    place.write_text("weights")
    with pytest.raises(CannotServe, match="cannot be listened on") as raised:
        _listen(flags)
    assert raised.value.kind == "usage"
    assert place.read_text() == "weights"
