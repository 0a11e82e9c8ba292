"""Fixtures of the whole suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.missing import missing
from tests.postgres_server import PostgresMissing, PostgresServer
from tests.pulsar_server import PulsarMissing, PulsarServer
from tests.redis_server import RedisMissing, RedisServer
from tests.side_by_side import FilesSideBySide, give_way

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Examples share the machine with brokers and browsers: how long one takes says nothing about it.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which worker runs what, if there are any."""
    return FilesSideBySide(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    """A worker that only computes gives way to the others."""
    give_way(config)


@pytest.fixture(scope="session")
def pulsar_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulsarServer]:
    """One broker for the whole run. Its tests take topic names of their own, so they need not clean up."""
    server = PulsarServer(tmp_path_factory.mktemp("pulsar"))
    try:
        server.start()
    except PulsarMissing as absent:
        missing(f"There is no Pulsar broker: {absent}.")
    yield server
    server.stop()


@pytest.fixture
def pulsar_url(pulsar_server: PulsarServer) -> str:
    """The address of the broker of this run."""
    return pulsar_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole run."""
    server = PostgresServer()
    try:
        server.start()
    except PostgresMissing as absent:
        missing(f"There is no PostgreSQL: {absent}.")
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of this test's own."""
    return postgres_server.new_database()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty server of this test's own: it takes a hundredth of a second."""
    server = RedisServer()
    try:
        server.start()
    except RedisMissing as absent:
        missing(f"There is no Redis: {absent}.")
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: the test runs once with each kind."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
