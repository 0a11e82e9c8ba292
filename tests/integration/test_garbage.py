"""What a request leaves behind is gone when it ends: nothing of it waits for a garbage collection, which would stop all
the others for as long as it takes to look through thousands of requests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.process import ROOT

REQUESTS = 320
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


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_no_request_leaves_anything_that_only_a_garbage_collection_finds(kind: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, kind], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = int(ran.stdout.splitlines()[-1])
    assert found < REQUESTS / 10, f"{found} objects of {REQUESTS} requests"
