"""One place for all rows, on each broker that ships: a row that harms it fails the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

import workernode.role
from tests.fake_upstream import FakeUpstream
from tests.integration.bad_input.place import REMOTE, SCRIPTED, Place
from tests.integration.bad_input.rows import BODY_BYTES_MAX, BODY_WAIT_S, MODEL, WRITE_WAIT_S
from tests.integration.conftest import BROKERS, fleet_on
from tests.keys import Keys
from tests.raw_http import KEY
from tests.scripted_engine import ScriptedEngine
from tests.watched_broker import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="package", loop_scope="session", params=BROKERS)
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    watch = Watch()
    fleet = fleet_on(request, watch.over, MODEL_NAME=MODEL)
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('keys')}/ledger.db")
    revoked, narrow = await keys.create("gone"), await keys.create("narrow", "--model", "another")
    await keys.run("revoke", "gone")
    engine = ScriptedEngine()
    await fleet.node()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workernode.role, "_engine", lambda *_: engine)
        await fleet.node(MODEL_NAME=f"{SCRIPTED}-{MODEL}")
    async with FakeUpstream() as upstream:
        await fleet.node(NODE_TYPE="remote", MODEL_NAME=f"{REMOTE}-{MODEL}", API_URL=upstream.url)
        running = await fleet.gateway(
            API_KEYS=f"tester:{KEY}",
            DATABASE_URL=keys.url,
            MODELS=MODEL,
            BODY_BYTES_MAX=str(BODY_BYTES_MAX),
            BODY_WAIT_S=str(BODY_WAIT_S),
            WRITE_WAIT_S=str(WRITE_WAIT_S),
            STREAM_BUFFER_BYTES_MAX=str(2**26),
        )
        made = Place(fleet, watch, running.port, engine, upstream)
        made.revoked, made.narrow = revoked, narrow
        yield made
        await fleet.aclose()
