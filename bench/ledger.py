"""What the ledger bears: a REST API and a dashboard over many rows, and events per second on top of them.

``python -m bench.ledger --rows 10000000`` fills a file with SQLite unless it is there (``--database``; 2.5 KB for each
row, and a quarter of an hour for ten million), tells a bad week's failures unless they are there, asks every page over
HTTP, and then tells charges through a Pulsar broker to a management that writes into the same file. It records into
``bench/results/ledger.json`` and writes docs/ledger.md.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import textwrap
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from bench import machine
from bench.fleet_processes import FleetProcesses
from bench.ledger_questions import PAGES, QUESTIONS
from bench.ledger_rows import ERRORS, FAILURES, charge, failure, fill
from bench.machine import Machine
from bench.process import ROOT
from bench.spread import percentile, significant
from bench.table import Table
from broker.open import open_broker
from process.identity import new_request_id, now_ms
from wire.topics import LEDGER, Topics

if TYPE_CHECKING:
    from bench.process import Process

OUTPUT = ROOT / "bench" / "results" / "ledger.json"
PAGE = ROOT / "docs" / "ledger.md"
DATABASE = Path("data") / "bench-ledger.db"
"""Kept, for the next run: to fill it takes longer than all the rest."""
REPEAT = 7
MIB = 2**20
LIMIT_MS = 200


class Asked(msgspec.Struct, frozen=True):
    """How long one question took: the first time, and of all times the median and the longest. ``cpu_ms`` is what
    management worked for one of them, which does not grow when others use the machine."""

    name: str
    first_ms: float
    median_ms: float
    greatest_ms: float
    cpu_ms: float


class Told(msgspec.Struct, frozen=True):
    """How a stream of charges or failures was stored. ``behind`` were not stored yet when the last one was told;
    ``per_s_stored`` counts until they were."""

    what: str

    events: int
    per_s_wanted: int
    per_s_told: float
    per_s_stored: float
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
        answer = json.loads(_asked(found, process, name, f"api/v1/{path}"))
        if answer.get("next_cursor"):
            more = f"api/v1/{path}{'&' if '?' in path else '?'}cursor={answer['next_cursor']}"
            _asked(found, process, f"{name}: the next page", urllib.parse.quote(more, safe=":/?&=%"))
        if name == "charges":
            request_id = answer["data"][-1]["request_id"]
            _asked(found, process, "one request", f"api/v1/requests/{request_id}")
    for name, path in PAGES.items():
        _asked(found, process, f"dashboard: {name}", path)
    return found


def _asked(found: list[Asked], process: Process, name: str, path: str) -> bytes:
    times: list[float] = []
    answer = b""
    cpu = process.cpu_s
    for _round in range(REPEAT):
        began = time.perf_counter()
        with urllib.request.urlopen(f"{process.url}/{path}") as response:
            answer = response.read()
        times.append((time.perf_counter() - began) * 1000)
    worked = (process.cpu_s - cpu) * 1000 / REPEAT
    found.append(Asked(name, *(significant(ms) for ms in (times[0], percentile(times, 50), max(times), worked))))
    return answer


def charges(count: int) -> list[bytes]:
    """So many new ones."""
    chance = random.Random(time.time_ns())
    return [charge(new_request_id(), chance, now_ms()) for _ in range(count)]


def failures(management: Process) -> list[bytes]:
    """Those of a bad week that ends today, unless such a week is there."""
    with urllib.request.urlopen(f"{management.url}/api/v1/errors") as response:
        if len(json.load(response)["data"]) >= ERRORS:
            return []
    chance, now = random.Random(time.time_ns()), now_ms()
    return [failure(number, chance, now) for number in range(FAILURES)]


async def tell(url: str, management: Process, what: str, events: list[bytes], per_s: int = 0) -> Told:
    """Tell events at an even pace, then wait until all are stored. ``per_s`` 0: as fast as the broker takes them."""
    count = len(events)
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
        what,
        count,
        per_s,
        significant(count / told_s),
        significant(count / all_s),
        behind,
        significant(all_s - told_s),
        significant((management.cpu_s - cpu) * 1000 / count),
        significant(management.resident_bytes / MIB),
    )


def _stored(management: Process) -> int:
    with urllib.request.urlopen(f"{management.url}/metrics") as response:
        found = re.findall(
            r'ledger_events_total\{type="request.(?:billed|failed)"\} ([\d.]+)', response.read().decode()
        )
    return sum(int(float(count)) for count in found)


def page(result: Result) -> str:
    """The result for people."""
    asked = Table(
        "Every page, over HTTP, in ms",
        ["page", "first", "median", "longest", "CPU of one"],
        [
            [each.name, *(f"{ms:g}" for ms in (each.first_ms, each.median_ms, each.greatest_ms, each.cpu_ms))]
            for each in result.asked
        ],
    )
    told = Table(
        "Events told through Pulsar: charges, each stored with event, end, price, sums and tag, and failures",
        [
            "told",
            "wanted/s",
            "told/s",
            "stored/s",
            "events",
            "behind at the end",
            "caught up after s",
            "CPU ms/event",
            "MiB",
        ],
        [
            [
                each.what,
                str(each.per_s_wanted or "all at once"),
                f"{each.per_s_told:g}",
                f"{each.per_s_stored:g}",
                str(each.events),
                str(each.behind),
                f"{each.caught_up_s:g}",
                f"{each.cpu_ms_per_event:g}",
                f"{each.resident_mib:g}",
            ]
            for each in result.told
        ],
    )
    data = "[the recorded data](../bench/results/ledger.json)"
    made = f"What `{result.command}` measured; it wrote this page from {data}."
    on = result.machine
    how = (
        f"{on.cores} cores ({on.processor}), {on.memory_mib / 1024:.0f} GiB, {on.system}, "
        f"Python {on.python}, SQLite. {result.date}, commit {result.commit}. Load average before and after: "
        f"{result.load_average_before}, {result.load_average_after}. {result.rows:,} charges, with as many events, "
        f"ends and prices, of 90 days, 100 keys, 5 models, 15 nodes and 10 teams: {result.database_gib:g} GiB. "
        "Management, broker and the teller of events share the cores; events go into the file that the pages come "
        "from. The dashboard's days end today, and those of the filled rows in August: its year has all of them. "
        f"Errors are those of a bad week: {ERRORS} of them on each day, for each model and key."
    )
    return f"""# What the ledger bears

{_wrapped(made)}

{_wrapped(how)}

{_wrapped(_missed(result))}

{asked.as_markdown()}

{told.as_markdown()}
"""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _missed(result: Result) -> str:
    slow = [each for each in result.asked if each.median_ms > LIMIT_MS]
    if not slow:
        return f"No page takes more than {LIMIT_MS} ms in the median."
    waited, worked = ([each.name for each in slow if (each.cpu_ms > LIMIT_MS) is is_work] for is_work in (False, True))
    told = [f"More than {LIMIT_MS} ms in the median:"]
    if worked:
        told.append(f"by their own work {'; '.join(worked)}.")
    if waited:
        told.append(f"By waiting for a core or the disk, with less than {LIMIT_MS} ms of work, {'; '.join(waited)}.")
    return " ".join(told)


@click.command()
@click.option("--database", type=click.Path(path_type=Path), default=DATABASE, show_default=True, help="For SQLite.")
@click.option("--rows", default=10_000_000, show_default=True, help="Charges in it.")
@click.option("--seconds", default=60.0, show_default=True, help="How long events are told at each pace.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, help="Another one leaves the page as it is.")
def main(database: Path, rows: int, seconds: float, output: Path) -> None:
    """Measure the ledger."""
    database.parent.mkdir(parents=True, exist_ok=True)
    if not database.exists():
        fill(database, rows, lambda what: click.echo(what, err=True))
    before, url = machine.load_average(), f"sqlite+aiosqlite:///{database.resolve()}"
    size = significant(database.stat().st_size / 2**30)
    with FleetProcesses() as fleet:
        fleet.broker()
        management = fleet.management(DATABASE_URL=url)
        told = []
        if week := failures(management):
            told.append(asyncio.run(tell(fleet.pulsar_url, management, "failures", week)))
        asked = ask(management)
        for per_s, count in ((2000, 2000), (0, 4000)):
            events = charges(int(count * seconds))
            told.append(asyncio.run(tell(fleet.pulsar_url, management, "charges", events, per_s)))
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
    if output == OUTPUT:
        PAGE.write_text(page(result))
    click.echo(page(result))


if __name__ == "__main__":
    sys.exit(main())
