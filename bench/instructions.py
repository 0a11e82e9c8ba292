"""How many instructions the hot path takes: a whole answer, and a stream of fifty chunks, counted by valgrind.

``python -m bench.instructions`` compares with ``bench/results/instructions.json`` and fails where one takes over three
percent more; ``--record`` counts anew and records. Seconds differ from machine to machine and from minute to minute;
the instructions of :mod:`bench.hot_path` are the same to a thousandth. What is counted is the difference between many
requests and few, so that neither a start nor the settling at the end is in it.

A calibration, work that no change of ours changes, is counted beside it. Where it takes another number of instructions
than it did for the record, interpreter or libraries are others, and nothing can be said until it is recorded anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from bench import machine
from bench.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = ROOT / "bench" / "results" / "instructions.json"
WORSE_MAX = 0.03
CALIBRATION_MAX = 0.005
"""By so much the calibration may differ from the recorded one."""
COUNTS = {"calibration": (2, 10), "whole": (16, 64), "stream": (16, 48)}
"""How many of each are done: few, and many."""
WARM_UP = {"whole": 16, "stream": 16}
ANSWER_WAIT_S = 300.0
RECORD_ANEW = "python -m bench.instructions --record"

# A library may choose code by what the processor can do: these choose the same on all of them.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-BMI2,-ERMS,-FSRM",
    "OPENSSL_ia32cap": "0x0:0x0",
}


class CannotCount(Exception):
    """There is no valgrind, or it did not do what it should. The message has the reason."""


class Counted(msgspec.Struct, frozen=True):
    """Instructions of one of each."""

    calibration: int
    whole: int
    stream: int
    """Of fifty chunks that come at once."""


class Record(msgspec.Struct, frozen=True):
    """What was counted, and with what. Only the figures decide; the rest is for people."""

    date: str
    commit: str
    system: str
    python: str
    valgrind: str
    counted: Counted


class Incomparable(Exception):
    """Not the same interpreter or libraries as for the record: nothing can be said. The sentence has both numbers."""


def count() -> Counted:
    """Count everything: half a minute. Raises :class:`CannotCount`."""
    with tempfile.TemporaryDirectory(prefix="workernode-instructions-") as home, _hot_path(Path(home)) as hot_path:
        for kind, number in WARM_UP.items():
            hot_path.do(kind, number)
        hot_path.tell("instrumentation", "on")
        hot_path.tell("zero")
        found = {}
        for kind, numbers in COUNTS.items():
            few, many = (hot_path.counted(kind, number) for number in numbers)
            found[kind] = round((many - few) / (numbers[1] - numbers[0]))
    return Counted(**found)


def worse(now: Counted, recorded: Counted) -> list[str]:
    """A sentence for each kind that takes over :data:`WORSE_MAX` more than recorded. Raises :class:`Incomparable`."""
    if abs(_change(now.calibration, recorded.calibration)) > CALIBRATION_MAX:
        raise Incomparable(
            f"The calibration takes {now.calibration:,} instructions here and took {recorded.calibration:,} for the "
            f"record: another interpreter or other libraries. Record anew on the state before the change: {RECORD_ANEW}"
        )
    return [
        f"A {name} takes {here:,} instructions, {_change(here, there):+.1%} of the {there:,} on record. "
        f"Make it cheaper, or, if it is worth that, record anew: {RECORD_ANEW}"
        for name, here, there in (
            ("whole answer", now.whole, recorded.whole),
            ("stream of fifty chunks", now.stream, recorded.stream),
        )
        if _change(here, there) > WORSE_MAX
    ]


def recorded() -> Record:
    """The record. Raises :class:`OSError` if there is none."""
    return msgspec.json.decode(RECORD.read_bytes(), type=Record)


def _change(now: int, before: int) -> float:
    return now / before - 1


class _HotPath:
    """A :mod:`bench.hot_path` under valgrind."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self._process = process
        self._out = out
        self._dumps = 0

    def do(self, kind: str, number: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind} {number}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise CannotCount("The hot path broke off: python -m bench.hot_path shows why.")

    def counted(self, kind: str, number: int) -> int:
        """The instructions of that many, and of what there is once."""
        self.do(kind, number)
        self.tell("dump")
        self._dumps += 1
        total = re.search(r"^totals: (\d+)$", Path(f"{self._out}.{self._dumps}").read_text(), re.MULTILINE)
        if total is None:
            raise CannotCount("valgrind wrote no total.")
        return int(total[1])

    def tell(self, *words: str) -> None:
        """Say something to valgrind, which counts on from there; the process waits for its next line meanwhile."""
        command = ["vgdb", f"--pid={self._process.pid}", "--wait=10", *words]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_WAIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise CannotCount(f"valgrind does not answer: {error}") from None


@contextmanager
def _hot_path(home: Path) -> Iterator[_HotPath]:
    if shutil.which("valgrind") is None or shutil.which("vgdb") is None:
        raise CannotCount("There is no valgrind: it is Debian's package of that name.")
    out = home / "counts"
    program = [sys.executable, "-m", "bench.hot_path"]
    process = subprocess.Popen(
        ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", *program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **_ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _HotPath(process, out)
    finally:
        process.kill()
        process.communicate()


@click.command()
@click.option("--record", is_flag=True, help="record what is counted instead of comparing")
def main(*, record: bool) -> None:
    """Count the instructions of the hot path."""
    try:
        now = count()
        before = None if record else recorded()
    except (CannotCount, OSError) as error:
        raise click.ClickException(str(error)) from None
    for kind in now.__struct_fields__:
        there = "" if before is None else f"  on record {getattr(before.counted, kind):>12,}"
        click.echo(f"{kind:12}{getattr(now, kind):>12,}{there}")
    if before is None:
        here = machine.this_machine()
        valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        kept = Record(machine.today(), machine.commit(), here.system, here.python, valgrind, now)
        RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        return
    try:
        found = worse(now, before.counted)
    except Incomparable as error:
        raise click.ClickException(str(error)) from None
    if found:
        raise click.ClickException(" ".join(found))


if __name__ == "__main__":
    main()
