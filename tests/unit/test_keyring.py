"""What a gateway knows of stored keys while their database comes, goes and changes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, text

from gateway.keys.api_keys import ApiKeys, digest_of
from gateway.keys.keyring import Keyring
from process.identity import now_ms
from store import database
from store import keys as table
from store.database import writing
from store.keys import KeyLimits, NewSecret
from store.migrate import upgrade
from store.tables import API_KEYS
from tests.waiting import until
from wire.errors import KeysUnavailable, Unauthorized

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

DIGEST = digest_of(b"sk-secret")


def url_in(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory}/keys.db"


async def with_key(directory: Path, expires_ms: int | None = None) -> AsyncEngine:
    engine = database.open(url_in(directory))
    await upgrade(engine)
    async with writing(engine) as connection:
        await table.create(connection, "app", NewSecret(DIGEST, "sk-secret"), KeyLimits(models=("a",)), 1, expires_ms)
    return engine


async def broken(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("ALTER TABLE api_keys RENAME TO elsewhere"))
        await connection.execute(text("UPDATE api_keys_version SET version = version + 1"))


async def test_a_database_without_tables_has_no_keys(tmp_path: Path) -> None:
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300)
    assert not keyring.is_empty, "nothing is known yet"
    with pytest.raises(KeysUnavailable):
        keyring.find(DIGEST)
    await keyring.refresh()
    assert keyring.is_empty
    assert keyring.find(DIGEST) is None
    await keyring.aclose()


async def test_an_unchanged_version_reads_nothing_else(tmp_path: Path) -> None:
    engine = await with_key(tmp_path)
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300)
    await keyring.refresh()
    found = keyring.find(DIGEST)
    assert found is not None
    assert (found.name, found.models) == ("app", frozenset({"a"}))
    async with writing(engine) as connection:
        await connection.execute(delete(API_KEYS))  # not by our commands: the version is the same
    await keyring.refresh()
    assert keyring.find(DIGEST) is found
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE api_keys_version SET version = version + 1"))
    await keyring.refresh()
    assert keyring.find(DIGEST) is None
    assert not keyring.is_empty, "a database that was emptied opens no door"
    await keyring.aclose()
    await engine.dispose()


async def test_a_database_that_fails_keeps_the_keys_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await with_key(tmp_path)
    registry = CollectorRegistry()
    keyring = Keyring(url_in(tmp_path), registry, stale_s=300)
    await keyring.refresh()
    assert registry.get_sample_value("gateway_keys_database_up") == 1
    await broken(engine)
    with caplog.at_level(logging.INFO, "gateway"):
        for _ in range(3):
            await keyring.refresh()
    assert len([record for record in caplog.records if 'action="keys_unavailable"' in record.message]) == 1
    assert registry.get_sample_value("gateway_keys_database_up") == 0
    assert registry.get_sample_value("gateway_keys_reads_failed_total") == 3
    assert keyring.find(DIGEST) is not None
    await keyring.aclose()
    await engine.dispose()


async def test_a_key_is_over_at_its_last_moment_without_another_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await with_key(tmp_path, expires_ms=now_ms() + 60_000)
    registry = CollectorRegistry()
    keyring = Keyring(url_in(tmp_path), registry, stale_s=300)
    await keyring.refresh()
    found = keyring.find(DIGEST)
    assert found is not None
    assert found.expires_ms is not None
    assert registry.get_sample_value("gateway_keys") == 1
    for moment, wanted in ((found.expires_ms - 1, found), (found.expires_ms, None)):
        monkeypatch.setattr("gateway.keys.keyring.now_ms", lambda moment=moment: moment)
        assert keyring.find(DIGEST) is wanted
    await keyring.aclose()
    await engine.dispose()


async def test_what_changed_without_a_new_version_is_seen_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await with_key(tmp_path)
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300)
    await keyring.refresh()
    async with writing(engine) as connection:
        await connection.execute(delete(API_KEYS))
    await keyring.refresh()
    assert keyring.find(DIGEST) is not None
    monkeypatch.setattr("gateway.keys.keyring.READ_ALL_S", 0.0)
    await keyring.refresh()
    assert keyring.find(DIGEST) is None
    await keyring.aclose()
    await engine.dispose()


async def test_a_database_is_asked_again_and_again_and_its_return_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await with_key(tmp_path)
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300, poll_s=0.01)
    with caplog.at_level(logging.INFO, "gateway"), monkeypatch.context() as away:
        away.setattr(table, "version", broken_off)
        reading = asyncio.create_task(keyring.run())
        await keyring.tried.wait()
        assert not keyring.is_known
        away.undo()
        await until(lambda: keyring.is_known)
        async with writing(engine) as connection:
            await table.revoke(connection, "app", now_ms())
        await until(lambda: keyring.find(DIGEST) is None)
        keyring.tried.clear()
        await keyring.tried.wait()  # a question that is cut off leaves its connection to the garbage collector
        reading.cancel()
        await asyncio.wait([reading])
    told = [re.findall('action="(.*?)"', record.message)[0] for record in caplog.records]
    assert told == ["keys_unavailable", "keys_recovered", "keys_read"]
    await keyring.aclose()
    await engine.dispose()


async def broken_off(_: object) -> NoReturn:
    raise ConnectionResetError


async def test_a_database_that_lost_its_tables_has_no_keys_and_opens_no_door(tmp_path: Path) -> None:
    engine = await with_key(tmp_path)
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300)
    await keyring.refresh()
    async with writing(engine) as connection:
        await connection.execute(text("DROP TABLE api_keys_version"))
    for _ in range(2):  # the first one fails, and the second one knows why
        await keyring.refresh()
    assert keyring.find(DIGEST) is None
    assert keyring.budgets == {}
    assert not keyring.is_empty
    await keyring.aclose()
    await engine.dispose()


async def test_keys_that_are_too_old_are_neither_good_nor_wrong(tmp_path: Path) -> None:
    engine = await with_key(tmp_path)
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=-1)
    await keyring.refresh()
    keys = ApiKeys({"own": "sk-own-12345"}, keyring)
    with pytest.raises(KeysUnavailable):
        keys.identify(b"Bearer sk-secret")
    with pytest.raises(Unauthorized):
        keys.identify(None)
    own = keys.identify(b"Bearer sk-own-12345")
    assert own is not None
    assert own.name == "own"
    await keyring.aclose()
    await engine.dispose()


async def test_an_empty_database_lets_in_whom_the_settings_let_in(tmp_path: Path) -> None:
    keyring = Keyring(url_in(tmp_path), CollectorRegistry(), stale_s=300)
    await keyring.refresh()
    assert ApiKeys({}, keyring, anonymous=True).identify(None) is None
    with pytest.raises(Unauthorized):
        ApiKeys({}, keyring, anonymous=False).identify(None)
    await keyring.aclose()


def test_a_database_that_cannot_be_one_ends_the_gateway_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = url_in(tmp_path / "file")
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env={**os.environ, "DATABASE_URL": url, "PULSAR_URL": "memory:", "PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("DATABASE_URL: the file ")
    assert "Traceback" not in ended.stderr
