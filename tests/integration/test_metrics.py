"""What real processes show Prometheus: all of it from the start, as documented, and nothing that a client chose."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import promql_parser
import pytest
import pytest_asyncio

from tests.exposed import Exposed, exposed
from tests.fake_upstream import Chaos, FakeUpstream
from tests.in_process import free_port
from tests.observed import alerts, expressions, grouped_by, panels, selectors
from tests.processes import ROOT, Processes
from tests.waiting import until
from wire.errors import CODES, CODES_BESIDE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.processes import Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-a-key-of-this-test"
HOSTILE = 'hostile-\u2028"} 1\n'
ABOUT = ("gateway_", "workernode_", "ledger_", "management_", "process_")


@dataclass
class House:
    """Gateway, node and management as one real process, with what they showed before their first request."""

    process: Process
    upstream: FakeUpstream
    urls: tuple[str, str, str]
    model: str
    before: Exposed

    async def ask(self, body: Any, path: str = "/v1/chat/completions", key: str = KEY) -> int:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        data = json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.process.url}{path}", data=data, headers=headers) as response,
        ):
            await response.read()
            return response.status

    async def now(self) -> Exposed:
        return await look(self.urls)


async def look(urls: tuple[str, ...]) -> Exposed:
    gateway, node, management = [await exposed(url, KEY) for url in urls]
    return gateway | node | management


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("house")
    async with FakeUpstream() as upstream, Processes(home, {}) as processes:
        model = "the-model"
        node, management = free_port(), free_port()
        process = await processes.everything(
            MODEL_NAME=model,
            NODE_TYPE="remote",
            API_URL=upstream.url,
            API_KEYS=f"tester:{KEY}",
            DATABASE_URL=f"sqlite+aiosqlite:///{home}/ledger.db",
            NODE_PORT=str(node),
            MANAGEMENT_PORT=str(management),
        )
        urls = (process.url, f"http://127.0.0.1:{node}", f"http://127.0.0.1:{management}")

        async def all_there() -> bool:
            return (await look(urls)).has("workernode_state", [("state", "ready")])

        await until(all_there)
        yield House(process, upstream, urls, model, await look(urls))


async def test_whatever_clients_send_there_are_the_series_of_the_first_moment_and_no_other(house: House) -> None:
    prompt = {"model": house.model, "messages": [{"role": "user", "content": "tokens=3"}]}
    assert await house.ask({**prompt, "stream": True}) == 200
    assert await house.ask({**prompt, "user": HOSTILE, "metadata": {HOSTILE: HOSTILE}}) in (200, 400)
    assert await house.ask({**prompt, "model": HOSTILE}) == 404
    assert await house.ask(prompt, path=f"/v1/{HOSTILE}") == 404
    assert await house.ask(prompt, key="sk-hostile-key") == 401
    code = {"error": {"message": "No.", "type": "invalid_request_error", "code": "hostile-code"}}
    house.upstream.script.append(Chaos(status=400, body=json.dumps(code).encode()))
    assert await house.ask(prompt) == 400
    async with aiohttp.ClientSession() as session:
        for method in ("PROPFIND", "DELETE"):
            async with session.request(method, f"{house.process.url}/{HOSTILE}"):
                pass

    async def settled() -> bool:
        after = (await house.now()).series
        return after["ledger_events_total", frozenset({("type", "request.billed")})] >= 1

    await until(settled)
    after = await house.now()
    assert set(after.series) == set(house.before.series)
    assert not any("hostile" in value for _, labels in after.series for _, value in labels)
    assert after.series["gateway_errors_total", frozenset({("code", "other")})] == 1
    assert after.series["gateway_first_token_seconds_count", frozenset()] == 1
    assert after.series["gateway_queue_seconds_count", frozenset()] == 3


async def test_the_page_of_metrics_has_what_the_processes_show_and_nothing_else(house: House) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented: dict[str, tuple[str, set[str]]] = {}
    for title, table in re.findall(r"^## (.+)\n((?:\n|\|.*\n)+)", page, re.MULTILINE):
        if title not in ("Node with a local model", "Controller"):
            for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", table, re.MULTILINE):
                found = re.findall(r"`(\w+)`:", labels) or re.findall(r"`(\w+)`", labels)
                documented[name.removesuffix("_total")] = kind, set(found)
    for alone in ("gateway_processes", "gateway_process_restarts"):  # of a gateway of several processes
        del documented[alone]
    shown = {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for name, family in house.before.families.items()
    }
    assert shown == documented
    check = [sys.executable, "scripts/metrics", "--check"]
    assert (await asyncio.to_thread(subprocess.run, check, cwd=ROOT, check=False)).returncode == 0


async def test_names_have_a_role_and_units_are_base_units(house: House) -> None:
    for name, family in house.before.families.items():
        assert name.startswith(ABOUT), name
        assert not re.search(r"_(ms|millis\w*|minutes?|hours?|kb|mb|percent|use)$", name), name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_bytes", "_events")), name
        assert len(family.documentation) > 10


async def test_every_code_of_an_error_is_known_when_the_process_starts() -> None:
    stated = re.compile(r'\bcode(?:: ClassVar\[str\]|, http_status, type, retryable)?\s*=\s*"([a-z_]+)"')
    found = {
        code
        for room in ("wire", "gateway", "workernode", "process")
        for file in (ROOT / room).rglob("*.py")
        for code in stated.findall(file.read_text())
    }
    assert found <= CODES
    assert set(CODES_BESIDE) <= found


@pytest.mark.parametrize("expression", dict.fromkeys(expressions()))
async def test_what_dashboard_and_alerts_look_at_is_really_there(house: House, expression: str) -> None:
    found = selectors(expression)
    assert found
    for selector in found:
        assert house.before.has(selector.name, selector.labels), selector
    labels = {
        label
        for name, theirs in house.before.series
        if name in {selector.name for selector in found}
        for label, _ in theirs
    }
    assert grouped_by(expression) <= labels


async def test_nodes_are_counted_once_however_many_managements_tell_of_them() -> None:
    for expression in expressions():
        once = re.findall(r"max by \(job, namespace, state\)\s+\(management_nodes", expression)
        assert len(once) == expression.count("management_nodes"), expression


async def test_no_alert_is_silent_because_figures_of_another_role_are_not_read() -> None:
    """A sum to which one of nothing is added is nothing: the figures of nodes on loopback, say, are often not read."""

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "+":
            roles = {
                selector.name.partition("_")[0] for side in (node.lhs, node.rhs) for selector in selectors(str(side))
            }
            assert len(roles) == 1, node

    for rule in alerts():
        promql_parser.walk(promql_parser.parse(rule["expr"]), visit)


async def test_alerts_are_told_in_sentences_and_panels_name_what_they_group_by() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert all(rule["annotations"][name].endswith(".") for name in ("summary", "description"))
        shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert shown <= grouped_by(rule["expr"]) | {"instance"}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown <= grouped_by(expression) | {"job", "instance"}, panel["title"]
