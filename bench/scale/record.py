"""What a measurement leaves behind: its figures beside their aims, when, how and on what they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from bench import machine
from bench.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = ROOT / "bench" / "results" / "scale"

Found = TypeVar("Found")


class Row(msgspec.Struct, frozen=True):
    """One figure for people. ``met`` is None where nothing was aimed at."""

    what: str
    measured: str
    aim: str = ""
    met: bool | None = None


class Record(msgspec.Struct, Generic[Found], frozen=True):
    """One run of one measurement. ``found`` has its data, from which the rows are made again."""

    date: str
    commit: str
    command: str
    wall_s: float
    load_average_before: float
    load_average_after: float
    machine: machine.Machine
    found: Found


def path_of(name: str) -> Path:
    """Where the measurement of this name is recorded."""
    return RESULTS / f"{name}.json"


def write(path: Path, record: Record[Found]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def at_most(what: str, value: float, aim: float, unit: str, digits: int = 2) -> Row:
    """A figure that shall not be more than the aim."""
    return Row(what, f"{value:.{digits}f} {unit}", f"≤ {aim:g} {unit}", value <= aim)


def told(what: str, value: float, unit: str, digits: int = 2) -> Row:
    """A figure without an aim."""
    return Row(what, f"{value:,.{digits}f} {unit}".rstrip())


def none_lost(answers: int, failed: int, first_error: str, what: str = "answers") -> Row:
    """Whether all came, complete."""
    text = f"{failed:,} of {answers + failed:,}" + (f": {first_error}" if failed else "")
    return Row(f"{what} lost or broken", text, "0", failed == 0)
