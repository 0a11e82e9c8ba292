"""What the ledger bears: pages and sums of a REST API over many rows, and events per second on top of them.

``python -m bench.ledger --database FILE --rows 10000000`` fills FILE with SQLite unless it is there (2.5 KB for each
row, and a quarter of an hour for ten million), asks every page over HTTP, and then tells charges through a Pulsar
broker to a management that writes into the same file. It records into ``bench/results/ledger.json`` and writes
docs/ledger.md.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from bench import machine
from bench.fleet_processes import ROOT, FleetProcesses
from bench.ledger_rows import charge, fill
from bench.machine import Machine
from bench.report import Table
from bench.spread import percentile, significant
from broker.open import open_broker
from process.identity import now_ms
from wire.topics import LEDGER, Topics

if TYPE_CHECKING:
    from bench.fleet_processes import Process

OUTPUT = ROOT / "bench" / "results" / "ledger.json"
PAGE = ROOT / "docs" / "ledger.md"
REPEAT = 7
MIB = 2**20
QUESTIONS = {
    "charges": "charges",
    "charges, of a key": "charges?key_id=key-7",
    "charges, of a model": "charges?model=model-3",
    "charges, of a key and a model": "charges?key_id=key-7&model=model-3",
    "charges, of a node": "charges?node=node-1-2-0123456789abcdef",
    "charges, of one hour long ago": "charges?since=2026-06-20T10:00:00Z&until=2026-06-20T11:00:00Z",
    "charges, of a key, long ago": "charges?key_id=key-7&until=2026-06-10T00:00:00Z",
    "charges, 1,000": "charges?limit=1000",
    "ends": "ends",
    "ends, failed (none)": "ends?status=failed",
    "ends, of a node": "ends?node=node-1-2-0123456789abcdef",
    "events": "events",
    "events, of a type": "events?type=request.billed",
    "events, of a node": "events?node=node-1-2-0123456789abcdef",
    "usage, one day by key": "usage?by=key&since=2026-06-20&until=2026-06-20",
    "usage, 30 days by day": "usage?by=day&since=2026-06-20&until=2026-07-19",
    "usage, 30 days by model and key": "usage?by=model&by=key&since=2026-06-20&until=2026-07-19",
    "usage, a key's 90 days by day": "usage?by=day&key_id=key-7",
    "usage, a team's 30 days by model": "usage?by=model&tag=team%3Dteam-3&since=2026-06-20&until=2026-07-19",
    "usage, all 90 days": "usage",
    "costs, 30 days by provider": "costs?by=provider&since=2026-06-20&until=2026-07-19",
    "budgets": "budgets",
    "nodes": "nodes",
    "models": "models",
    "dead letters": "dead-letters",
    "errors, 90 days": "errors?since=2026-05-01",
}


class Asked(msgspec.Struct, frozen=True):
    """How long one question took: the first time, and of all times the median and the longest."""

    name: str
    first_ms: float
    median_ms: float
    greatest_ms: float


class Told(msgspec.Struct, frozen=True):
    """How a stream of charges was stored. ``behind`` were not stored yet when the last one was told."""

    events: int
    per_s_wanted: int
    per_s_told: float
    behind: int
    caught_up_s: float
    cpu_ms_per_event: float
    resident_mib: float


class Result(msgspec.Struct, frozen=True):
    """One run."""

    date: str
    commit: str
    command: str
    load_average_before: float
    load_average_after: float
    machine: Machine
    rows: int
    database_gib: float
    asked: list[Asked]
    told: list[Told]


def ask(process: Process) -> list[Asked]:
    """Every question, and the second page where there is one."""
    found: list[Asked] = []
    for name, path in QUESTIONS.items():
        answer = _asked(found, name, f"{process.url}/api/v1/{path}")
        if answer.get("next_cursor"):
            more = f"{process.url}/api/v1/{path}{'&' if '?' in path else '?'}cursor={answer['next_cursor']}"
            _asked(found, f"{name}: the next page", urllib.parse.quote(more, safe=":/?&=%"))
        if name == "charges":
            request_id = answer["data"][-1]["request_id"]
            _asked(found, "one request", f"{process.url}/api/v1/requests/{request_id}")
    return found


def _asked(found: list[Asked], name: str, url: str) -> Any:
    times: list[float] = []
    answer: Any = None
    for _round in range(REPEAT):
        began = time.perf_counter()
        with urllib.request.urlopen(url) as response:
            answer = json.load(response)
        times.append((time.perf_counter() - began) * 1000)
    found.append(Asked(name, *(significant(ms) for ms in (times[0], percentile(times, 50), max(times)))))
    return answer


async def tell(url: str, management: Process, per_s: int, seconds: float) -> Told:
    """Tell charges at an even pace, then wait until all are stored. ``per_s`` 0: as fast as the broker takes them."""
    chance = random.Random(time.time_ns())
    count = int((per_s or 4000) * seconds)
    events = [charge(f"req_{chance.randbytes(16).hex()}", chance, now_ms()) for _ in range(count)]
    broker = open_broker(url)
    await broker.connect()
    await broker.ensure(Topics().results, LEDGER)
    producer = await broker.producer(Topics().results, gather_ms=20)
    stored, cpu, began = _stored(management), management.cpu_s, time.perf_counter()
    sending: set[asyncio.Task[None]] = set()
    for number, event in enumerate(events):
        if per_s and (ahead := began + number / per_s - time.perf_counter()) > 0.005:
            await asyncio.sleep(ahead)
        if len(sending) > 2000:
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.ensure_future(producer.send(event))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    told_s = time.perf_counter() - began
    behind = count - (_stored(management) - stored)
    while _stored(management) - stored < count:  # noqa: ASYNC110 (another process stores them)
        await asyncio.sleep(0.05)
    all_s = time.perf_counter() - began
    await producer.aclose()
    await broker.aclose()
    return Told(
        count,
        per_s,
        significant(count / (told_s if per_s else all_s)),
        behind,
        significant(all_s - told_s),
        significant((management.cpu_s - cpu) * 1000 / count),
        significant(management.resident_bytes / MIB),
    )


def _stored(management: Process) -> int:
    with urllib.request.urlopen(f"{management.url}/metrics") as response:
        found = re.search(r'ledger_events_total\{type="request.billed"\} ([\d.]+)', response.read().decode())
    return int(float(found[1])) if found else 0


def page(result: Result) -> str:
    """The result for people."""
    asked = Table(
        "Every page, over HTTP, in ms",
        ["page", "first", "median", "longest"],
        [[each.name, f"{each.first_ms:g}", f"{each.median_ms:g}", f"{each.greatest_ms:g}"] for each in result.asked],
    )
    told = Table(
        "Charges told through Pulsar, each stored with event, end, price, sums and tag",
        ["wanted/s", "stored/s", "events", "behind at the end", "caught up after s", "CPU ms/event", "MiB"],
        [
            [
                str(each.per_s_wanted or "all at once"),
                f"{each.per_s_told:g}",
                str(each.events),
                str(each.behind),
                f"{each.caught_up_s:g}",
                f"{each.cpu_ms_per_event:g}",
                f"{each.resident_mib:g}",
            ]
            for each in result.told
        ],
    )
    return f"""# What the ledger bears

What `{result.command}` measured; it wrote this page from [the recorded data](../bench/results/ledger.json).

{result.machine.cores} cores ({result.machine.processor}), {result.machine.memory_mib / 1024:.0f} GiB,
{result.machine.system}, Python {result.machine.python}, SQLite. {result.date}, commit {result.commit}.
Load average before and after: {result.load_average_before}, {result.load_average_after}. {result.rows:,} charges, with
as many events, ends and prices, of 90 days, 100 keys, 5 models, 15 nodes and 10 teams: {result.database_gib:g} GiB.
Management, broker and the teller of events share the cores; events go into the file that the pages come from.

{asked.as_markdown()}

{told.as_markdown()}
"""


@click.command()
@click.option("--database", type=click.Path(path_type=Path), required=True, help="A file for SQLite.")
@click.option("--rows", default=10_000_000, show_default=True, help="Charges in it.")
@click.option("--seconds", default=60.0, show_default=True, help="How long events are told at each pace.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
def main(database: Path, rows: int, seconds: float, output: Path) -> None:
    """Measure the ledger."""
    if not database.exists():
        fill(database, rows, lambda what: click.echo(what, err=True))
    before, url = machine.load_average(), f"sqlite+aiosqlite:///{database.resolve()}"
    size = significant(database.stat().st_size / 2**30)
    with FleetProcesses() as fleet:
        fleet.broker()
        management = fleet.management(DATABASE_URL=url)
        asked = ask(management)
        told = [asyncio.run(tell(fleet.pulsar_url, management, per_s, seconds)) for per_s in (2000, 0)]
    result = Result(
        date=machine.today(),
        commit=machine.commit(),
        command=f"python -m bench.ledger --rows {rows} --seconds {seconds:g}",
        load_average_before=before,
        load_average_after=machine.load_average(),
        machine=machine.this_machine(),
        rows=rows,
        database_gib=size,
        asked=asked,
        told=told,
    )
    output.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    PAGE.write_text(page(result))
    click.echo(page(result))


if __name__ == "__main__":
    sys.exit(main())
