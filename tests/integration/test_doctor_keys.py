"""The doctor and a gateway's stored keys: their database, and the store of limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from fleet.doctor.examination import examine
from fleet.doctor.report import as_json
from store import database
from tests.in_process import free_port
from tests.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.doctor.finding import Finding
    from tests.postgres_server import PostgresServer
    from tests.redis_server import RedisServer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that nobody has used yet."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/new/workernode.db"
    postgres: str = request.getfixturevalue("postgres_url")
    return postgres


async def found(url: str, **env: str) -> dict[str, Finding]:
    environ = {"PULSAR_URL": "memory:", "PORT": str(free_port()), "DATABASE_URL": url, **env}
    findings = await examine(("gateway",), environ)
    assert "CANARY" not in as_json(findings)
    assert all(finding.remedy for finding in findings if finding.state != "ok")
    return {finding.name: finding for finding in findings}


def is_empty(directory: Path) -> bool:
    return not list(directory.iterdir())


async def set_revision(url: str, revision: str) -> None:
    engine = database.open(url)
    async with database.writing(engine) as connection:
        await connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    await engine.dispose()


async def test_the_database_of_keys_is_looked_at(url: str, tmp_path: Path) -> None:
    fresh = (await found(url))["keys database"]
    assert (fresh.state, "management" in (fresh.remedy or "")) == ("warn", True)
    assert is_empty(tmp_path), "looking makes no file"
    await Keys(url).create("first")
    current = (await found(url))["keys database"]
    assert (current.state, current.sentence) == ("ok", "The database answers; it has 1 secret of keys.")
    for revision, state in (("0002", "warn"), ("9999", "fail")):
        await set_revision(url, revision)
        finding = (await found(url))["keys database"]
        assert (finding.state, f"revision {revision}" in finding.sentence) == (state, True)


async def test_a_database_out_of_reach_fails_without_its_password(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    address = postgres_url.replace("@", ":CANARY@")
    assert (await found(address))["keys database"].state == "warn"
    gone = address.replace(str(postgres_server.port), str(free_port()))
    for wrong in (gone, address + "-of-nobody"):
        finding = (await found(wrong))["keys database"]
        assert (finding.state, "DATABASE_URL" in (finding.remedy or "")) == ("fail", True)


async def test_the_store_of_limits_is_looked_at(tmp_path: Path, redis_server: RedisServer) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/workernode.db"
    assert (await found(url))["limits storage"].state == "ok"
    shared = (await found(url, LIMITS_STORAGE_URL=redis_server.limits_url))["limits storage"]
    assert (shared.state, shared.sentence) == ("ok", "The store of limits answers.")
    await asyncio.to_thread(redis_server.stop)
    away = redis_server.limits_url.replace("://", "://:CANARY@")
    finding = (await found(url, LIMITS_STORAGE_URL=away))["limits storage"]
    assert (finding.state, "LIMITS_STORAGE_URL" in (finding.remedy or "")) == ("fail", True)


async def test_without_a_database_there_is_nothing_to_look_at() -> None:
    assert set(await found("")) == {"gateway settings", "broker", "gateway port"}
