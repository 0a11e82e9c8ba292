"""Stores of limits by their URL: which are opened, and what is said of those that cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from limits.aio.storage import MemoryStorage, RedisClusterStorage, RedisSentinelStorage, RedisStorage

from gateway.keys.limit_memory import Memory
from gateway.keys.limit_storage import CLIENTS, MEMORY, SCHEMES, check_storage, close_storage, is_memory, open_storage

SECRET = "canary-secret"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (MEMORY, Memory),
        ("async+memory://x", Memory),
        ("async+redis://host:6379", RedisStorage),
        (f"async+redis://:{SECRET}@host:6379/1", RedisStorage),
        ("async+rediss://host:6379", RedisStorage),
        ("async+redis+unix:///run/redis.sock", RedisStorage),
        ("async+redis+cluster://host:7000,other:7000", RedisClusterStorage),
        ("async+redis+sentinel://host:26379/service", RedisSentinelStorage),
    ],
)
async def test_a_store_is_opened_by_its_url_and_can_be_closed(url: str, kind: type) -> None:
    check_storage(url)
    storage = open_storage(url)
    assert isinstance(storage, kind)
    assert is_memory(url) == isinstance(storage, MemoryStorage)
    await close_storage(storage)


@pytest.mark.parametrize("url", ["", "memory://", "redis://host:6379", "async+etcd://host:1", "async+redis://[::1"])
def test_another_scheme_is_told_with_two_that_there_are(url: str) -> None:
    with pytest.raises(ValueError, match=r"none of async\+memory://, async\+redis:// and the like"):
        check_storage(url)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_of_a_store_that_needs_another_package_that_is_told(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.limit_storage.find_spec", lambda name: None)
    server = next((each for each in CLIENTS if each in scheme), None)
    if server is None:
        check_storage(f"{scheme}://host:1")
    else:
        with pytest.raises(ValueError, match=rf"pip install 'limits\[async-{server}\]'"):
            check_storage(f"{scheme}://host:1")


def test_the_package_that_is_looked_for_is_the_one_that_speaks_with_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("gateway.keys.limit_storage.find_spec", asked.append)
    for url in ("async+rediss://host:1", "async+valkeys://host:1", "async+mongodb+srv://host"):
        with pytest.raises(ValueError, match="not installed"):
            check_storage(url)
    assert asked == ["redis", "valkey", "pymongo"]


@pytest.mark.parametrize("url", [f"async+redis://{SECRET}@host", f"async+redis+sentinel://{SECRET}@host:26379"])
def test_what_cannot_be_read_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="for sentinels the name of the service") as wrong:
        check_storage(url)
    assert SECRET not in str(wrong.value)


async def test_closing_lets_go_of_the_server() -> None:
    closed: list[str] = []

    class Client:
        async def aclose(self) -> None:
            closed.append("closed")

    storage = cast("RedisStorage", open_storage("async+redis://host:6379"))
    storage.bridge = cast("Any", SimpleNamespace(storage=Client()))
    await close_storage(storage)
    assert closed == ["closed"]
