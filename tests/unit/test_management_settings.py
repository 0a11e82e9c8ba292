"""Management's settings."""

from __future__ import annotations

import sys
import zoneinfo

import pytest

from management.settings import ManagementSettings
from process.settings import WrongSettings, load


def test_it_listens_on_loopback_without_a_key_by_default() -> None:
    settings = load(ManagementSettings, {})
    assert (settings.management_host, settings.management_port, settings.management_key) == ("127.0.0.1", 8082, None)


def test_a_machine_that_knows_no_time_zones_has_days_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a small container has neither the system's zones nor Python's."""
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath([])
    try:
        zoneinfo.ZoneInfo.clear_cache()
        assert load(ManagementSettings, {}).books.zone_name == "UTC"
        with pytest.raises(WrongSettings, match=r"^TIME_ZONE: no time zone .* install the package tzdata"):
            load(ManagementSettings, {"TIME_ZONE": "Europe/Berlin"})
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "ledger.internal"])
def test_it_does_not_listen_for_other_machines_without_a_key(host: str) -> None:
    with pytest.raises(WrongSettings, match="MANAGEMENT_KEY: it is not set, but MANAGEMENT_HOST="):
        load(ManagementSettings, {"MANAGEMENT_HOST": host})
    assert load(ManagementSettings, {"MANAGEMENT_HOST": host, "MANAGEMENT_KEY": "a-long-key"}).management_host == host


@pytest.mark.parametrize("host", ["localhost", "::1", "127.1.2.3"])
def test_loopback_has_many_names(host: str) -> None:
    assert load(ManagementSettings, {"MANAGEMENT_HOST": host}).management_host == host


def test_a_wrong_database_is_told_without_its_password() -> None:
    with pytest.raises(WrongSettings, match="DATABASE_URL: it must begin with") as caught:
        load(ManagementSettings, {"DATABASE_URL": "mysql://someone:hunter2@host/ledger"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["z", "seven-7", "with a space", "schlüssel-lang", "a-line\n-of-two"])
@pytest.mark.parametrize("setting", ["MANAGEMENT_KEY={}", "MANAGEMENT_KEYS=alice=operator:{}"])
def test_a_key_that_is_soon_guessed_or_cannot_be_sent_is_refused(key: str, setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(WrongSettings, match="fewer than 8 characters, or some that cannot stand in a header") as why:
        load(ManagementSettings, {name: value.format(key)})
    assert why.value.problems[0].startswith(f"{name}: ")


def test_one_key_is_one_person() -> None:
    keys = {"MANAGEMENT_KEY": "opensesame", "MANAGEMENT_KEYS": "grafana=reader:opensesame"}
    with pytest.raises(WrongSettings, match="MANAGEMENT_KEY: it is one of MANAGEMENT_KEYS, too") as caught:
        load(ManagementSettings, keys)
    assert "opensesame" not in str(caught.value)


def test_no_secret_is_shown_by_the_settings() -> None:
    settings = load(
        ManagementSettings, {"MANAGEMENT_KEY": "hunter2hunter2", "DATABASE_URL": "postgresql+asyncpg://u:pw7@h/d"}
    )
    assert "hunter2" not in repr(settings)
    assert "pw7" not in repr(settings)
