"""What the doctor makes of what it sees."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

import fleet.doctor.broker
from broker.interface import BrokerError, BrokerForbidden, BrokerUnavailable, TopicMissing
from broker.memory import MemoryBroker, MemoryServer
from fleet.admin_settings import AdminSettings
from fleet.doctor import doctor, examination
from fleet.doctor.asking import Reply, clock_finding
from fleet.doctor.broker import check_broker
from fleet.doctor.broker_admin import SETTING, _delay_finding
from fleet.doctor.examination import examine
from fleet.doctor.finding import fail, ok, warn
from fleet.doctor.ports import check_ports
from fleet.doctor.report import as_json, as_lines, is_well
from fleet.doctor.upstream import _judge, models_url
from fleet.start.ports import Address
from process.settings import WrongSettings, load
from tests.in_process import free_port
from wire.topics import Topics

if TYPE_CHECKING:
    from fleet.doctor.finding import Finding

CANARY = "CANARY-0123456789"


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_lines_are_aligned_and_a_remedy_stands_below() -> None:
    findings = [ok("a", "Fine."), warn("longer", "Hm.\x1b[31m\n", "Do."), fail("b", "Bad.", "Do it.")]
    assert as_lines(findings) == [
        "✓ a       Fine.",
        "! longer  Hm. [31m ",
        "          → Do.",
        "✗ b       Bad.",
        "          → Do it.",
    ]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, ("http://pulsar.example:8080", None)),
        ({"PULSAR_ADMIN_URL": "http://admin.example"}, ("http://admin.example", CANARY)),
    ],
)
async def test_no_token_is_shown_to_an_admin_interface_that_was_only_guessed(
    settings: dict[str, str], shown: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    async def check_admin(url: str, token: str | None, _: object) -> list[Finding]:
        asked.append((url, token))
        return []

    async def check_broker(*_: object) -> list[Finding]:
        return []

    monkeypatch.setattr(examination, "check_admin", check_admin)
    monkeypatch.setattr(examination, "check_broker", check_broker)
    await examination.examine((), {"PULSAR_URL": "pulsar://pulsar.example:6650", "PULSAR_TOKEN": CANARY, **settings})
    assert asked == [shown]


def test_json_has_every_finding_and_whether_all_is_well() -> None:
    told = json.loads(as_json([ok("a", "Fine.", 1.5), warn("b", "Hm.")]))
    assert told == {
        "ok": True,
        "findings": [
            {"name": "a", "state": "ok", "sentence": "Fine.", "measured_ms": 1.5},
            {"name": "b", "state": "warn", "sentence": "Hm."},
        ],
    }
    assert json.loads(as_json([fail("a", "Bad.", "Do.")]))["ok"] is False


@pytest.mark.parametrize(("found", "well"), [([], True), ([warn("a", "")], True), ([fail("a", "", "")], False)])
def test_only_what_fails_is_not_well(found: list[Finding], well: bool) -> None:
    assert is_well(found) is well


async def test_every_wrong_setting_is_a_finding_and_the_common_ones_only_once() -> None:
    environ = {"PORT": "many", "NODE_PORT": "0x", "PULSAR_URL": "nonsense", "API_KEYS": CANARY[:7]}
    found = await examine(("gateway", "node", "management"), environ)
    failed = [finding.sentence.split(":")[0] for finding in found if finding.state == "fail"]
    assert sorted(failed) == ["API_KEYS", "NODE_PORT", "PORT", "PULSAR_URL"]
    assert CANARY[:6] not in as_json(found)
    assert all(finding.remedy for finding in found if finding.state == "fail")


async def test_only_the_roles_asked_for_are_looked_at() -> None:
    found = await examine(("gateway",), {"PULSAR_URL": "memory:", "NODE_PORT": "many", "PORT": str(free_port())})
    assert states(found) == {"gateway settings": "ok", "broker": "ok", "gateway port": "ok"}


def test_the_exit_code_tells_whether_anything_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULSAR_URL", "memory:")
    monkeypatch.setenv("PORT", str(free_port()))
    assert doctor(("gateway",), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    monkeypatch.setenv("PORT", "many")
    monkeypatch.setenv("API_KEYS", CANARY)
    assert doctor(("gateway",), as_json=False) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("✗ gateway settings")
    assert CANARY not in shown


class Refusing(MemoryBroker):
    """Refuses to connect."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def connect(self) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(BrokerForbidden("It said no."), "PULSAR_TOKEN"), (BrokerUnavailable("Nobody there."), "PULSAR_URL")],
)
async def test_a_broker_out_of_reach_is_one_failure_with_its_remedy(error: Exception, remedy: str) -> None:
    (finding,) = await check_broker(Refusing(error), Topics(), "m")
    assert (finding.name, finding.state, finding.sentence) == ("broker", "fail", str(error))
    assert remedy in (finding.remedy or "")


async def test_a_broker_in_order_has_its_topics_made_and_its_time_taken() -> None:
    server = MemoryServer()
    broker = MemoryBroker(server)
    found = await check_broker(broker, Topics(), "m")
    await broker.aclose()
    assert states(found) == dict.fromkeys(("broker", "request topic", "results topic", "round trip"), "ok")
    assert found[-1].measured_ms is not None
    assert "[<workers " in repr(server.topic(Topics().requests("m")))
    assert "[<ledger " in repr(server.topic(Topics().results))
    assert "kept=0" in repr(server.topic("persistent://public/default/doctor"))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (TopicMissing("Subscription does not exist."), "fleet access"),
        (BrokerError("Exceed maximum number of topics in namespace."), "limit of the namespace"),
    ],
)
async def test_a_topic_that_cannot_be_made_fails_with_its_remedy(
    error: BrokerError, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(MemoryBroker, "ensure", refuse)
    found = await check_broker(MemoryBroker(), Topics(), "m")
    assert states(found) == {"broker": "ok", "request topic": "fail", "results topic": "fail", "round trip": "ok"}
    assert remedy in (found[1].remedy or "")


async def test_a_token_that_may_only_publish_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise BrokerForbidden("No permission.")

    monkeypatch.setattr(MemoryBroker, "ensure", refuse)
    found = await check_broker(MemoryBroker(), Topics(), "m")
    assert states(found) == {"broker": "ok", "request topic": "warn", "results topic": "warn", "round trip": "ok"}
    assert "fleet access" in (found[1].remedy or "")


@pytest.mark.parametrize(("took_ms", "state"), [(0.9, "ok"), (7.9, "ok"), (8.0, "warn"), (11.2, "warn")])
async def test_a_slow_round_trip_hints_at_the_brokers_default(
    monkeypatch: pytest.MonkeyPatch, took_ms: float, state: str
) -> None:
    async def taken(*_: object) -> float:
        return took_ms

    monkeypatch.setattr(fleet.doctor.broker, "_round_trip_ms", taken)
    finding = (await check_broker(MemoryBroker(), Topics(), None))[-1]
    assert (finding.name, finding.state, finding.measured_ms) == ("round trip", state, took_ms)
    assert (SETTING in (finding.remedy or "")) == (state == "warn")


async def test_a_message_that_never_comes_back_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.doctor.broker, "CHECK_WAIT_S", 0.05)
    monkeypatch.setattr("broker.memory_server.Subscription.dispatch", lambda _: None)
    broker = MemoryBroker()
    finding = (await check_broker(broker, Topics(), None))[-1]
    assert (finding.name, finding.state) == ("round trip", "warn")
    assert not broker.consumers


@pytest.mark.parametrize(
    ("status", "settings", "state"),
    [
        (200, {SETTING: "0"}, "ok"),
        (200, {SETTING: "1"}, "ok"),
        (200, {SETTING: "10"}, "warn"),
        (200, {SETTING: "x"}, "warn"),
        (200, {SETTING: 10}, "warn"),
        (200, {}, "warn"),
        (200, None, "warn"),
        (200, ["a"], "warn"),
        (401, {SETTING: "0"}, "warn"),
    ],
)
def test_the_brokers_setting_is_judged(status: int, settings: object, state: str) -> None:
    assert _delay_finding(status, settings).state == state


@pytest.mark.parametrize(("clock_s", "state"), [(0.0, "ok"), (-5.0, "ok"), (6.0, "warn"), (-3600.0, "warn")])
def test_a_clock_more_than_5_seconds_off_is_a_warning(clock_s: float, state: str) -> None:
    finding = clock_finding("clock", Reply(200, None, clock_s))
    assert finding is not None
    assert finding.state == state
    assert clock_finding("clock", Reply(200, None, None)) is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, {"data": [{"id": "m"}]}, None), {"upstream": "ok", "upstream model": "ok"}),
        (Reply(200, {"data": [{"id": "x"}, 5, {"id": 5}]}, None), {"upstream": "ok", "upstream model": "warn"}),
        (Reply(200, {"data": {}}, None), {"upstream": "warn"}),
        (Reply(200, None, None), {"upstream": "warn"}),
        (Reply(401, None, None), {"upstream": "fail"}),
        (Reply(403, None, None), {"upstream": "fail"}),
        (Reply(404, None, None), {"upstream": "warn"}),
        (Reply(429, None, None), {"upstream": "warn"}),
        (Reply(302, None, None), {"upstream": "warn"}),
        (Reply(500, {"data": []}, None), {"upstream": "warn"}),
    ],
    ids=lambda each: str(each)[:40],
)
def test_the_providers_reply_is_judged(reply: Reply, expected: dict[str, str]) -> None:
    assert states(_judge(reply, "m")) == expected


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://host", "https://host/v1/models"),
        ("https://host/v1/", "https://host/v1/models"),
        ("https://host/v1/chat/completions", "https://host/v1/models"),
        ("https://host/openai/deployments/x?api-version=1", "https://host/openai/models?api-version=1"),
    ],
)
def test_the_list_of_models_stands_beside_the_completions(api_url: str, expected: str) -> None:
    assert models_url(api_url) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_port_that_something_else_holds_fails(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.settimeout(0)
        port = taken.getsockname()[1]
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr("fleet.doctor.ports._is_ours", _never)
            (finding,) = await check_ports([Address("gateway", host, port, "PORT")])
    assert finding.state == "fail"
    assert finding.sentence == f"Port {port} on {host} (gateway) is in use."
    assert "set PORT to a free port" in (finding.remedy or "")


@pytest.mark.parametrize("host", ["nosuch.invalid", "203.0.113.9"])
async def test_a_host_that_is_not_this_machine_is_not_the_ports_fault(host: str) -> None:
    (finding,) = await check_ports([Address("node", host, free_port(), "NODE_PORT")])
    assert finding.state == "fail"
    assert finding.sentence.startswith(f"Cannot listen on {host}:")
    assert finding.remedy == "Set NODE_HOST to another."


async def _never(_: Address) -> bool:
    return False


async def test_two_roles_on_one_port_fail() -> None:
    port = free_port()
    found = await check_ports(
        [Address("gateway", "127.0.0.1", port, "PORT"), Address("node", "127.0.0.1", port, "N_P")]
    )
    assert states(found) == {"gateway port": "ok", "node port": "fail"}
    assert found[1].sentence == f"PORT and N_P are both {port}."


@pytest.mark.parametrize(
    ("environ", "admin"),
    [
        ({}, "http://localhost:8080"),
        ({"PULSAR_URL": "pulsar+ssl://a.example:6651,b.example"}, "http://a.example:8080"),
        ({"PULSAR_URL": "pulsar://[::1]:6650"}, "http://[::1]:8080"),
        ({"PULSAR_ADMIN_URL": "https://admin.example/"}, "https://admin.example"),
    ],
)
def test_the_admin_address_is_derived_from_the_brokers(environ: dict[str, str], admin: str) -> None:
    assert load(AdminSettings, environ).admin_url == admin


@pytest.mark.parametrize("url", ["admin:8080", "ftp://x", f"http://u:{CANARY}@host", "http://", "http://[::1"])
def test_a_wrong_admin_address_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(WrongSettings) as caught:
        load(AdminSettings, {"PULSAR_ADMIN_URL": url})
    assert caught.value.problems[0].startswith("PULSAR_ADMIN_URL: it must begin with http")
    assert CANARY not in str(caught.value)
