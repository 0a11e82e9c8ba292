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


class Busy(msgspec.Struct, frozen=True):
    """Delays are from the sending of a chunk to its arrival; ``direct`` is without a fleet."""

    streams: int
    chunks_per_s: float
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


def measure(fleet: FleetProcesses, *, streams: int, per_s: float, seconds: float) -> Busy:
    """Let so many streams say so many chunks per second each."""
    upstream = fleet.upstream()
    broker, gateway = fleet.broker(), fleet.gateway()
    roles = [gateway, fleet.node("remote", MAX_PROCESS_NUM=str(streams)), broker]
    wait_for_model(gateway)
    Load(url=gateway.url, clients=16, requests=200, stream=True).run()
    chunks = round(per_s * seconds)

    def load(url: str) -> Load:
        return Load(
            url=url,
            clients=streams,
            requests=streams,
            ramp_s=STEP * streams / per_s,
            stream=True,
            stamped=True,
            chunks=chunks,
            pace_ms=1000 / per_s,
        )

    direct = load(upstream.url).run()
    before = {role.name: role.cpu_s for role in roles}
    sample = load(gateway.url).run()
    assert sample.chunk_delay_ms is not None
    assert direct.chunk_delay_ms is not None
    return Busy(
        streams=streams,
        chunks_per_s=per_s,
        chunks=sample.chunks,
        delay_ms=sample.chunk_delay_ms,
        direct_ms=direct.chunk_delay_ms,
        cores={role.name: round((role.cpu_s - before[role.name]) / sample.seconds, 3) for role in roles},
        answers=sample.answers,
        failed=sample.failed,
        first_error=sample.first_error,
    )


def rows(found: Busy) -> list[Row]:
    """For people."""
    what = f"{found.streams} streams with {found.chunks_per_s:g} chunks/s each"
    p99 = found.added_p99_ms
    return [
        Row(f"{what}: added p99 of a chunk's delay", f"{p99:.2f} ms", f"< {P99_AIM_MS:g} ms", p99 < P99_AIM_MS),
        told("p50 and the greatest", found.delay_ms.p50, f"and {found.delay_ms.max:.1f} ms"),
        *(told(f"{name} meanwhile", cores, "cores") for name, cores in found.cores.items()),
        none_lost(found.answers, found.failed, found.first_error, "streams"),
    ]
