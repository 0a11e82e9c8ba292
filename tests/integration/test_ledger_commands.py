"""``fleet ledger``, ``usage``, ``requests`` and ``nodes``, and the exports, on a ledger of a real run."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from click.testing import CliRunner

from broker.memory import MemoryBroker, MemoryServer
from fleet.__main__ import main
from tests import sqlite_file
from tests.in_process import InProcessFleet
from tests.keys import Keys, ask
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REQUESTS = 5
CANARY = "canary-4711-prompt"
PRICES = '[[price]]\nmodel = "static"\ncurrency = "USD"\ninput = 0\noutput = 0\nper_request = 0.25\n'


class House:
    """Gateway, node and management, with their ledger."""

    def __init__(self, fleet: InProcessFleet, directory: Path) -> None:
        self.fleet = fleet
        self.url = f"sqlite+aiosqlite:///{directory}/ledger.db"
        self.path = directory / "ledger.db"
        prices = directory / "prices.toml"
        prices.write_text(PRICES)
        self.environment = {"DATABASE_URL": self.url, "PRICES_FILE": str(prices)}

    async def open(self, **environment: str) -> None:
        """Start all, with a key."""
        self.key = await Keys(self.url).create("alice", "--tag", "team=search")
        given = {**self.environment, **environment}
        self.management = await self.fleet.management(self.url, PRICES_FILE=given["PRICES_FILE"], **environment)
        await self.fleet.node()
        self.gateway = await self.fleet.gateway(**given)

    async def use(self, count: int) -> None:
        """Send requests, and wait for their charges."""
        for _ in range(count):
            answer = await ask(self.gateway.port, self.key, "static", user=CANARY, metadata={"job": "night", "n": 1})
            assert answer.status == 200, answer.body
        await until(lambda: self._charged(count), within_s=10)

    async def _charged(self, count: int) -> bool:
        answer = json.loads((await self.get("/api/v1/usage"))[1])
        return bool(answer["data"][0]["requests"] == count)

    async def get(self, path: str) -> tuple[int, str]:
        """Ask management."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.management.url}{path}") as response:
            return response.status, await response.text()

    async def run(self, *arguments: str, code: int = 0, told: str | None = None) -> str:
        """A command of ``fleet``; ``told`` is what stands in standard error, where that is asked for."""
        environment = {**self.environment, "MANAGEMENT_URL": self.management.url}

        def invoke() -> str:
            result = CliRunner(env=environment).invoke(main, arguments)
            assert result.exit_code == code, (result.output, result.exception)
            assert told is None or (told in result.stderr if told else not result.stderr), result.stderr
            return result.stdout

        return await asyncio.to_thread(invoke)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    yield House(fleet, tmp_path)
    await fleet.aclose()


async def test_usage_money_and_tags_are_shown_as_tables_and_as_json(house: House) -> None:
    await house.open()
    await house.use(REQUESTS)
    (row,) = json.loads(await house.run("usage", "--json"))["data"]
    assert (row["requests"], row["unpriced_requests"]) == (REQUESTS, 0)
    assert row["amounts"] == [{"currency": "USD", "amount": "1.25"}]
    tags = json.loads(await house.run("usage", "--by", "tag", "--json"))["data"]
    assert {each["tag"]: each["requests"] for each in tags} == {"job=night": REQUESTS, "team=search": REQUESTS}
    (by_team,) = json.loads(await house.run("usage", "--tag", "team", "--by", "tag", "--json"))["data"]
    assert by_team["tag"] == "team=search"
    names, line = (await house.run("usage", "--by", "model", "--by", "key")).splitlines()
    assert names.split() == ["model", "key_id", "requests", "prompt_tokens", "completion_tokens", "amount",
                             "without_price"]  # fmt: skip
    assert line.split()[:3] == ["static", "alice", str(REQUESTS)]
    assert "1.25 USD" in line
    ends = json.loads(await house.run("requests", "--json"))["data"]
    assert [end["status"] for end in ends] == ["answered"] * REQUESTS
    assert await house.run("requests", "--status", "failed") == "No such request has ended.\n"
    timeline = await house.run("requests", ends[0]["request_id"])
    assert "request.billed" in timeline
    nodes = await house.run("nodes")
    assert "static" in nodes
    assert ends[0]["node"] in nodes  # what orders name where two nodes have one name
    assert json.loads(await house.run("nodes", "--json"))["data"][0]["state"] == "ready"
    assert "day" in await house.run("usage", "--by", "day")
    await sqlite_file.execute(house.path, "DELETE FROM events")
    assert "are deleted" in await house.run("requests", ends[0]["request_id"])


async def test_management_that_is_away_or_refuses_is_told_in_a_sentence(house: House) -> None:
    await house.open()
    await house.run("usage", "--since", "yesterday", code=1)
    await house.management.end()
    await house.run("nodes", code=4)


async def test_the_ledger_fits_is_rebuilt_and_is_priced_anew(house: House) -> None:
    await house.open()
    await house.use(REQUESTS)
    await until(lambda: _accepted(house), within_s=5)
    found = json.loads(await house.run("ledger", "reconcile", "--open-min", "1", "--json"))
    assert all(found[name]["count"] == 0 for name in found if name not in ("requests", "charges"))
    house.environment["TIME_ZONE"] = "Europe/Berlin"
    for command in ("reconcile", "reprice"):
        await house.run("ledger", command, code=2)
    del house.environment["TIME_ZONE"]
    before = await house.get("/api/v1/usage?by=day&by=tag")
    rebuilt = json.loads(await house.run("ledger", "rebuild", "--json", told=""))
    assert (rebuilt["charges"], rebuilt["unreadable"]) == (REQUESTS, 0)
    assert await house.get("/api/v1/usage?by=day&by=tag") == before
    prices = house.path.with_name("prices.toml")
    prices.write_text(PRICES.replace("0.25", "0.5"))
    await house.run("ledger", "reprice")
    (row,) = json.loads(await house.run("usage", "--json"))["data"]
    assert row["amounts"] == [{"currency": "USD", "amount": "2.50"}]
    prices_file = house.environment.pop("PRICES_FILE")
    await house.run("ledger", "reprice", code=2)  # by mistake nobody takes all amounts away
    assert json.loads(await house.run("usage", "--json"))["data"][0]["amounts"] == row["amounts"]
    house.environment["PRICES_FILE"] = prices_file
    prices.write_text("")
    await house.run("ledger", "rebuild")  # keeps the price that each charge has
    assert json.loads(await house.run("usage", "--json"))["data"][0]["amounts"] == row["amounts"]
    await house.run("ledger", "reprice")
    (row,) = json.loads(await house.run("usage", "--json"))["data"]
    assert (row["amounts"], row["unpriced_requests"]) == ([], REQUESTS)
    house.environment["TIME_ZONE"] = "Asia/Tokyo"
    await house.run("ledger", "rebuild", told="Its days were those of UTC, and are those of Asia/Tokyo from here on")
    repriced = json.loads(await house.run("ledger", "reprice", "--since", "0001-01-01", "--json"))
    assert repriced["charges"] == REQUESTS


async def _accepted(house: House) -> bool:
    events = json.loads((await house.get("/api/v1/events?type=gateway.accepted"))[1])["data"]
    return sum(len(event["event"]["data"]["requests"]) for event in events) == REQUESTS


async def test_an_export_can_be_taken_up_after_any_position(house: House) -> None:
    await house.open()
    await house.use(REQUESTS)
    whole = await house.run("ledger", "export", "charges")
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["amount"] for line in lines] == ["0.25"] * REQUESTS
    assert lines[0]["tags"] == {"job": "night", "team": "search"}
    for place in range(REQUESTS):
        rest = await house.run("ledger", "export", "charges", "--after", str(lines[place]["position"]))
        assert [json.loads(line) for line in rest.splitlines()] == lines[place + 1 :]
    status, text = await house.get(f"/api/v1/export/charges?format=csv&after={lines[0]['position']}&limit=2")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert status == 200
    assert [row["request_id"] for row in rows] == [line["request_id"] for line in lines[1:3]]
    assert [row["amount"] for row in rows] == ["0.25", "0.25"]
    _, text = await house.get("/api/v1/export/events")
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert {event["specversion"] for event in events} == {"1.0"}
    assert sum(event["type"] == "io.workernode.request.billed" for event in events) == REQUESTS


@pytest.mark.parametrize(("gateway", "management"), [("false", "false"), ("true", "false"), ("false", "true")])
async def test_no_prompt_is_stored_unless_both_sides_are_told_to(house: House, gateway: str, management: str) -> None:
    await house.open(STORE_PROMPTS=management)
    await house.gateway.end()
    house.gateway = await house.fleet.gateway(**house.environment, STORE_PROMPTS=gateway)
    await house.use(1)
    (charge,) = json.loads((await house.get("/api/v1/charges"))[1])["data"]
    status, _ = await house.get(f"/api/v1/requests/{charge['request_id']}/prompt")
    assert status == 404
    await house.management.end()
    stored = b"".join(path.read_bytes() for path in house.path.parent.glob("ledger.db*"))
    assert b"alice" in stored
    assert CANARY.encode() not in stored


async def test_a_prompt_is_stored_where_that_is_wanted(house: House) -> None:
    await house.open(STORE_PROMPTS="true")
    await house.use(1)
    (charge,) = json.loads((await house.get("/api/v1/charges"))[1])["data"]
    path = f"/api/v1/requests/{charge['request_id']}/prompt"
    await until(lambda: _is_there(house, path), within_s=5)
    prompt: dict[str, Any] = json.loads((await house.get(path))[1])
    assert json.loads(prompt["body"])["user"] == CANARY
    assert (prompt["key_id"], prompt["body_bytes"]) == ("alice", len(prompt["body"]))
    assert CANARY not in (await house.get("/api/v1/events"))[1]


async def _is_there(house: House, path: str) -> bool:
    return (await house.get(path))[0] == 200
