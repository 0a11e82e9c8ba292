"""``fleet keys``: what it prints, what it stores, and what it says when it cannot."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from store import database
from store.database import reading
from store.tables import API_KEYS
from tests.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    if request.param == "sqlite":
        return Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    return Keys(request.getfixturevalue("postgres_url"))


async def stored(keys: Keys) -> str:
    engine = database.open(keys.url)
    async with reading(engine) as connection:
        rows = [dict(row) for row in (await connection.execute(select(API_KEYS))).mappings()]
    await engine.dispose()
    return repr(rows)


async def test_a_key_has_256_bits_and_is_stored_as_its_digest(keys: Keys) -> None:
    key = await keys.create("app")
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", key)
    rows = await stored(keys)
    assert hashlib.sha256(key.encode()).hexdigest() in rows
    assert key not in rows
    assert key[3:20] not in rows


async def test_a_key_is_shown_once(keys: Keys) -> None:
    code, key, notes = await keys.tried("create", "app")
    assert (code, key.count("\n")) == (0, 1), "it stands alone on standard output"
    assert key.strip() not in notes
    _, shown, _ = await keys.tried("list")
    _, in_json, _ = await keys.tried("list", "--json")
    assert key.strip() not in shown + in_json
    assert key[:10] in shown


async def test_limits_are_shown_as_they_were_given(keys: Keys) -> None:
    given = ("--model", "a", "--model", "b", "--requests-per-min", "5", "--tokens-per-min", "600", "--concurrent", "7")
    await keys.create("app", *given)
    (row,) = (await keys.run("list"))["data"]
    assert [row[name] for name in ("models", "requests_per_min", "tokens_per_min", "concurrent_max", "state")] == [
        ["a", "b"], 5, 600, 7, "active",
    ]  # fmt: skip
    _, line, _ = await keys.tried("list")
    assert "models=a,b  5 requests/min  600 tokens/min  7 at once" in line


async def test_a_name_is_never_given_twice(keys: Keys) -> None:
    await keys.create("app")
    for _ in range(2):
        code, out, err = await keys.tried("create", "app")
        assert (code, out) == (1, "")
        assert "Choose another name" in err
        await keys.tried("revoke", "app")


async def test_what_is_not_good_any_more_is_neither_revoked_nor_rotated(keys: Keys) -> None:
    await keys.create("app")
    assert await keys.run("revoke", "app") == {"name": "app", "revoked": 1}
    for command in (("revoke", "app"), ("rotate", "app"), ("revoke", "nobody"), ("rotate", "nobody")):
        code, out, err = await keys.tried(*command)
        assert (code, out) == (1, "")
        assert "There is no key named" in err


async def test_revoking_ends_the_secrets_of_a_grace_too(keys: Keys) -> None:
    await keys.create("app", "--expires", "30d")
    await keys.run("rotate", "app", "--grace", "1h")
    assert (await keys.run("revoke", "app"))["revoked"] == 2


async def test_a_rotation_keeps_the_expiry_and_never_prolongs_a_secret(keys: Keys) -> None:
    created = await keys.run("create", "app", "--expires", "1h")
    rotated = await keys.run("rotate", "app", "--grace", "30d")
    assert rotated["expires"] == created["expires"]
    assert [row["expires"] for row in (await keys.run("list"))["data"]] == [created["expires"]] * 2


async def test_a_key_without_an_expiry_stays_without_one_when_it_is_rotated(keys: Keys) -> None:
    await keys.create("app")
    await keys.run("rotate", "app", "--grace", "15m")
    new, old = (await keys.run("list"))["data"]
    assert (new["generation"], new["expires"]) == (2, None)
    assert old["expires"] is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", ""),
        ("create", "x" * 65),
        ("create", "a\nb"),
        ("create", " a"),
        ("create", "a", "--expires", "soon"),
        ("create", "a", "--expires", "-1s"),
        ("create", "a", "--expires", "0s"),
        ("create", "a", "--requests-per-min", "0"),
        ("create", "a", "--tokens-per-min", "many"),
        ("create", "a", "--model", "x" * 300),
        ("rotate", "a", "--grace", "1y"),
        ("nonsense",),
    ],
)
async def test_a_wrong_option_is_a_sentence_and_changes_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    code, out, err = await keys.tried(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert not (tmp_path / "workernode.db").exists()


async def test_a_database_that_is_away_is_a_sentence_without_its_password() -> None:
    code, out, err = await Keys("postgresql+asyncpg://user:hunter2@127.0.0.1:1/none").tried("list")
    assert (code, out) == (4, "")
    assert "cannot be used at the moment" in err
    assert "hunter2" not in err


async def test_a_wrong_database_is_named_by_its_setting() -> None:
    code, _, err = await Keys("mysql://user:hunter2@host/db").tried("list")
    assert code == 2
    assert err.startswith("DATABASE_URL: ")
    assert "hunter2" not in err
