"""What asks a role to stop, and what does not."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.processes import Processes
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    async with Processes(tmp_path, {"PULSAR_URL": "memory:"}) as started:
        yield started


@pytest.fixture
def no_hangup() -> Iterator[None]:
    """What is started meanwhile ignores SIGHUP, as what nohup starts does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_and_the_end_of_the_terminal_ask_a_role_to_leave_in_order(
    processes: Processes, number: int
) -> None:
    node = await processes.node()
    os.kill(node.pid, number)
    await until(lambda: not node.running)
    assert await node.stop() == 0
    assert "The node has left." in node.log.read_text()


async def test_a_role_outlives_the_terminal_where_whoever_started_it_wants_that(
    processes: Processes, no_hangup: None
) -> None:
    node = await processes.node()
    os.kill(node.pid, signal.SIGHUP)
    await node.ready()
    assert "finishes its work" not in node.log.read_text()
    assert await node.stop() == 0
