"""Many streams that say much: how much later a chunk comes than without a fleet in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.fleet_processes import wait_for_model
from bench.generator import Load, Percentiles
from bench.scale.record import Row, none_lost, told

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

P99_AIM_MS = 10.0
STEP = 0.618
"""Of the pause between two chunks, from the beginning of one stream to that of the next: whole parts of it, or simple
ones, would let the chunks of many streams come in step for ever."""


class Crowd(msgspec.Struct, frozen=True):
    """So many streams. Delays are from the sending of a chunk to its arrival; ``direct`` is without a fleet."""

    streams: int
    chunks: int
    delay_ms: Percentiles
    direct_ms: Percentiles
    cores: dict[str, float]
    """Processor time per second, by role."""
    answers: int
    failed: int
    first_error: str

    @property
    def added_p99_ms(self) -> float:
        """What the fleet adds."""
        return self.delay_ms.p99 - self.direct_ms.p99


class Busy(msgspec.Struct, frozen=True):
    """The streams that are aimed at, after a part of them: how far it is to where chunks begin to wait."""

    chunks_per_s: float
    crowds: list[Crowd]


def measure(fleet: FleetProcesses, *, streams: int, per_s: float, seconds: float, warm_up_s: float) -> Busy:
    """Let a quarter, a half and all of so many streams say so many chunks per second each."""
    upstream = fleet.upstream()
    broker, gateway = fleet.broker(), fleet.gateway()
    roles = [gateway, fleet.node("remote", MAX_PROCESS_NUM=str(streams)), broker]
    wait_for_model(gateway)
    Load(url=gateway.url, clients=16, seconds=warm_up_s, stream=True).run()

    def crowd(size: int) -> Crowd:
        def load(url: str) -> Load:
            return Load(
                url=url,
                clients=size,
                requests=size,
                ramp_s=STEP * size / per_s,
                stream=True,
                stamped=True,
                chunks=round(per_s * seconds),
                pace_ms=1000 / per_s,
            )

        direct = load(upstream.url).run()
        before = {role.name: role.cpu_s for role in roles}
        sample = load(gateway.url).run()
        assert sample.chunk_delay_ms is not None
        assert direct.chunk_delay_ms is not None
        return Crowd(
            streams=size,
            chunks=sample.chunks,
            delay_ms=sample.chunk_delay_ms,
            direct_ms=direct.chunk_delay_ms,
            cores={role.name: round((role.cpu_s - before[role.name]) / sample.seconds, 3) for role in roles},
            answers=sample.answers,
            failed=sample.failed,
            first_error=sample.first_error,
        )

    return Busy(per_s, [crowd(size) for size in (streams // 4, streams // 2, streams)])


def rows(found: Busy) -> list[Row]:
    """For people."""
    *fewer, all_ = found.crowds
    p99 = all_.added_p99_ms
    what = f"streams with {found.chunks_per_s:g} chunks/s each: added p99 of a chunk's delay"
    first_error = next((crowd.first_error for crowd in found.crowds if crowd.failed), "")
    return [
        Row(f"{all_.streams} {what}", f"{p99:.2f} ms", f"< {P99_AIM_MS:g} ms", p99 < P99_AIM_MS),
        told("p50 and the greatest", all_.delay_ms.p50, f"and {all_.delay_ms.max:.1f} ms"),
        *(told(f"{name} meanwhile", cores, "cores") for name, cores in all_.cores.items()),
        *(told(f"{crowd.streams} {what}", crowd.added_p99_ms, "ms") for crowd in fewer),
        none_lost(
            sum(crowd.answers for crowd in found.crowds),
            sum(crowd.failed for crowd in found.crowds),
            first_error,
            "streams",
        ),
    ]
