"""What a request leaves behind is gone when it ends: nothing of it waits for a garbage collection, which would stop all
the others for as long as it takes to look through thousands of requests."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS = 320
BATCHES = 20
PROGRAM = f"""
import asyncio, gc, os, sys
from bench.hot_path import answered, stand_still, start
from bench.memory_loop import MemoryLoop

loop = MemoryLoop()
stand_still(loop)
asyncio.set_event_loop(loop)
clients = loop.run_until_complete(start(loop))
stream = sys.argv[1] == "stream"
loop.run_until_complete(answered(clients, 80, stream=stream))
gc.collect()
gc.disable()
loop.run_until_complete(answered(clients, {REQUESTS}, stream=stream))
print(gc.collect(), flush=True)
os._exit(0)
"""

LEDGER = f"""
import asyncio, gc, sys
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from management.ledger.books import Books
from store import database
from store.migrate import upgrade
from tests.billing import NOON_MS, billed, event, node_event, request_data

def batch(number):
    failed = request_data(1_000 + number, status="failed", error_code="upstream_timeout")
    limited = node_event(f"limited-{{number}}", "node.rate_limited")
    return [billed(number), event(f"failed-{{number}}", "request.failed", failed), limited, b"no event %d" % number]

async def run():
    engine = database.open(sys.argv[1])
    await upgrade(engine)
    await open_books(engine, Books(), NOON_MS)
    for number in range({2 * BATCHES}):
        if number == {BATCHES}:
            gc.collect()
            gc.disable()
        await write(engine, [read(payload) for payload in batch(number)], NOON_MS)
    print(gc.collect())
    await engine.dispose()

asyncio.run(run())
"""


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_no_request_leaves_anything_that_only_a_garbage_collection_finds(kind: str) -> None:
    found = _found(PROGRAM, kind)
    assert found < REQUESTS / 10, f"{found} objects of {REQUESTS} requests"


def test_a_batch_of_events_leaves_next_to_nothing_that_only_a_garbage_collection_finds(tmp_path: Path) -> None:
    found = _found(LEDGER, f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    assert found < 30 * BATCHES, f"{found} objects of {BATCHES} batches"  # what SQLAlchemy leaves of a question or two


def _found(program: str, argument: str) -> int:
    command = [sys.executable, "-c", program, argument]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout.splitlines()[-1])
