"""A million requests: whether memory and open files of any process grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.fleet_processes import wait_for_model
from bench.generator import Load, finished
from bench.scale.flat import growth
from bench.scale.record import Row, none_lost, told
from bench.scale.watch import Sampled, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from bench.fleet_processes import FleetProcesses

CLIENTS = 8
"""Of whole answers, and as many of streams."""
SAMPLES = 400
MEMORY_GROWTH_MAX_MIB, MEMORY_GROWTH_MAX = 3.0, 0.03
"""Memory is flat if the last three quarters rise by no more than the greater of both, the second of their median."""
FILES_GROWTH_MAX = 3.0
LIMITED_BY_ITSELF = ("broker",)
"""Told, and not judged: its heap grows to what its settings allow."""
PER_S_GUESS = 400.0
"""For how often to look: a run of any length gets some hundred samples."""


class Soak(msgspec.Struct, frozen=True):
    """So many requests, half of them streams."""

    requests: int
    seconds: float
    answers: int
    failed: int
    first_error: str
    seen: dict[str, list[Sampled]]

    def grown(self, role: str) -> tuple[float, float]:
        """By how much memory (MiB) and open files rose in the last three quarters."""
        at = [each.at_s for each in self.seen[role]]
        memory = growth(at, [each.resident_mib for each in self.seen[role]])
        return memory, growth(at, [float(each.files) for each in self.seen[role]])

    def memory_may_grow_mib(self, role: str) -> float:
        """What still counts as flat."""
        held = sorted(each.resident_mib for each in self.seen[role])
        return max(MEMORY_GROWTH_MAX_MIB, MEMORY_GROWTH_MAX * held[len(held) // 2])


def measure(fleet: FleetProcesses, *, requests: int) -> Soak:
    """Ask so often, whole answers and streams side by side."""
    fleet.upstream()
    broker, management = fleet.broker(), fleet.management()
    gateway, node = fleet.gateway(), fleet.node("remote")
    wait_for_model(gateway)
    each = requests // 2
    loads = [Load(url=gateway.url, clients=CLIENTS, requests=each, stream=stream) for stream in (False, True)]
    every_s = min(30.0, max(0.25, requests / PER_S_GUESS / SAMPLES))
    with Watch([gateway, node, management, broker], every_s) as watch:
        samples = [finished(generator) for generator in [load.start() for load in loads]]
    return Soak(
        requests=2 * each,
        seconds=max(sample.seconds for sample in samples),
        answers=sum(sample.answers for sample in samples),
        failed=sum(sample.failed for sample in samples),
        first_error=next((sample.first_error for sample in samples if sample.failed), ""),
        seen=watch.seen,
    )


def rows(found: Soak) -> list[Row]:
    """For people."""
    told_of = [none_lost(found.answers, found.failed, found.first_error, f"{found.requests:,} requests: answers")]
    told_of.append(told("it took", found.seconds / 60, f"minutes, {found.answers / found.seconds:,.0f}/s", 1))
    for role, samples in found.seen.items():
        memory, files = found.grown(role)
        most, judged = found.memory_may_grow_mib(role), role not in LIMITED_BY_ITSELF
        told_of += [
            Row(
                f"{role}: memory rises in the last three quarters by",
                f"{memory:+.1f} MiB, to {samples[-1].resident_mib:.1f} MiB",
                f"≤ {most:.1f} MiB" if judged else "",
                memory <= most if judged else None,
            ),
            Row(
                f"{role}: open files rise by",
                f"{files:+.1f}, to {samples[-1].files}",
                f"≤ {FILES_GROWTH_MAX:g}" if judged else "",
                files <= FILES_GROWTH_MAX if judged else None,
            ),
        ]
    return told_of


def draw(found: Soak, to: Path) -> None:
    """Memory and open files over time, a panel for each process. Needs matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from bench.plots import STYLE

    with mpl.rc_context(STYLE):
        picture = Figure(figsize=(9, 4.2), layout="constrained")
        panels = picture.subplots(2, len(found.seen), sharex=True)
        for column, (role, samples) in enumerate(found.seen.items()):
            minutes = [each.at_s / 60 for each in samples]
            upper, lower = panels[0][column], panels[1][column]
            upper.plot(minutes, [each.resident_mib for each in samples], color="#0072b2", linewidth=1.4)
            lower.plot(minutes, [each.files for each in samples], color="#d55e00", linewidth=1.4)
            upper.set_title(role, loc="left", fontsize=9)
            lower.set_xlabel("minutes")
            for axes in (upper, lower):
                axes.set_ylim(bottom=0)
                axes.margins(y=0.15)
        panels[0][0].set_ylabel("MiB")
        panels[1][0].set_ylabel("open files")
        picture.savefig(to, metadata={"Date": None}, facecolor="white")
