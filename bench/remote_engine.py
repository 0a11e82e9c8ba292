"""What the remote engine costs by itself: processor time per whole answer and per chunk, without broker and gateway.

``python -m bench.remote_engine`` runs the engine in this process against a compiled provider in another one. A chunk's
cost is the difference between long streams and short ones, so that what each answer costs is no part of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click
import msgspec
import uvloop

from bench import machine
from bench.compiled import running
from bench.process import ROOT, NotReady
from bench.result import spreads
from bench.spread import Spread
from bench.table import Table
from wire.request import Request
from workernode.engine import Job
from workernode.outcome import Answered
from workernode.remote.engine import RemoteEngine

OUTPUT = ROOT / "bench" / "results" / "remote_engine.json"
TOKENS = 50
LONG_TOKENS = 1050
AT_ONCE = 16
AIMS = {f"whole_ms, {AT_ONCE} at once": 0.25, "whole_ms, 1 at once": 0.25, "chunk_us": 6.0}
"""What is aimed at: processor time per whole answer, and per chunk where chunks come as fast as they can."""


class Conditions(msgspec.Struct, frozen=True):
    """When and how it was measured."""

    date: str
    commit: str
    command: str
    rounds: int
    answers: int
    load_average_before: float
    load_average_after: float


class Result(msgspec.Struct, frozen=True):
    """Processor time of the process with the engine, in milliseconds per answer and microseconds per chunk."""

    run: Conditions
    machine: machine.Machine
    cpu: dict[str, Spread]


class _Nowhere:
    """Where the engine writes: the cost of what follows is no part of this."""

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        pass


def _job(tokens: int, *, stream: bool, paced: bool = False) -> Job:
    prompt = f"[bench chunks={tokens} pace_us={1000 if paced else 0}]" + " word" * 90
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": stream,
    }
    request = Request(
        request_id=f"req_{0:032x}",
        model="bench",
        endpoint="chat/completions",
        body=msgspec.json.encode(body),
        gateway="gateway-bench",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
    )
    return Job(request, answer_id="chatcmpl-bench", created_s=0, remaining_s=600.0)


async def _cpu_s(engine: RemoteEngine, job: Job, answers: int, at_once: int) -> float:
    """Seconds of processor time per answer."""
    left = answers

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            outcome = await engine.answer(job, _Nowhere())
            if not isinstance(outcome, Answered):
                raise click.ClickException(f"An answer was not complete: {outcome.error.message}")

    began = time.process_time()
    await asyncio.gather(*(ask() for _ in range(at_once)))
    return (time.process_time() - began) / answers


async def _round(engine: RemoteEngine, answers: int) -> dict[str, float]:
    few = max(answers // 20, AT_ONCE)
    found = {
        f"whole_ms, {at_once} at once": 1e3 * await _cpu_s(engine, _job(TOKENS, stream=False), answers, at_once)
        for at_once in (1, AT_ONCE)
    }
    for name, paced in (("", False), (", 1 ms apart", True)):
        short = await _cpu_s(engine, _job(TOKENS, stream=True, paced=paced), few if paced else answers // 4, AT_ONCE)
        long = await _cpu_s(engine, _job(LONG_TOKENS, stream=True, paced=paced), AT_ONCE if paced else few, AT_ONCE)
        found[f"stream_ms of {TOKENS} chunks{name}"] = 1e3 * short
        found[f"chunk_us{name}"] = 1e6 * (long - short) / (LONG_TOKENS - TOKENS)
    return found


async def _measure(url: str, rounds: int, answers: int) -> list[dict[str, float]]:
    engine = RemoteEngine(api_url=url, api_key=lambda: "sk-bench", upstream_model="bench", slots=AT_ONCE)
    await engine.start()
    try:
        await _round(engine, max(answers // 10, 20))  # warms up
        return [await _round(engine, answers) for _ in range(rounds)]
    finally:
        await engine.aclose()


def conditions(result: Result) -> str:
    """Where and how it was measured."""
    run, where = result.run, result.machine
    return (
        f"{where.cores} cores ({where.processor}), {where.system}, Python {where.python}. {run.date}, "
        f"commit {run.commit}, `{run.command}`. "
        f"Load average before and after: {run.load_average_before}, {run.load_average_after}. "
        f"Medians of {run.rounds} rounds, least and greatest in brackets; answers of {TOKENS} tokens."
    )


def report(result: Result) -> Table:
    """The figures, and what is aimed at."""
    rows = [
        [name, f"{each.median:.3g} ({each.least:.3g}…{each.greatest:.3g})", f"{AIMS[name]:g}" if name in AIMS else ""]
        for name, each in result.cpu.items()
    ]
    return Table("Processor time of the remote engine alone", ["what", "measured", "at most"], rows)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="how often everything is measured")
@click.option("--answers", default=2000, show_default=True, help="whole answers in a round; streams are fewer")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT, help="where the data go")
def main(*, rounds: int, answers: int, output: Path) -> None:
    """Measure what the remote engine costs on this machine."""
    before = machine.load_average()
    try:
        with running() as url:
            found = uvloop.run(_measure(url, max(rounds, 1), max(answers, 40)))
    except NotReady as error:
        raise click.ClickException(str(error)) from None
    run = Conditions(
        date=machine.today(),
        commit=machine.commit(),
        command=" ".join(["python -m bench.remote_engine", *sys.argv[1:]]),
        rounds=rounds,
        answers=answers,
        load_average_before=before,
        load_average_after=machine.load_average(),
    )
    result = Result(run, machine.this_machine(), spreads(found))
    output.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    click.echo(report(result).as_text())


if __name__ == "__main__":
    main()
