"""The load generator (bench/programs/load) from Python: what is asked, and what it saw."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, fields

import msgspec

from bench.compiled import build


class LoadFailed(Exception):
    """The generator did not run to its end. The message has its last words."""


class Percentiles(msgspec.Struct, frozen=True):
    """Of one quantity, in milliseconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    curve: list[float] = []
    """The values at 0, 1, … 100 percent, where they were asked for."""


class Step(msgspec.Struct, frozen=True):
    """Answers that ended within one step of the timeline."""

    from_s: float
    answers: int
    total_ms: Percentiles | None


class Sample(msgspec.Struct, frozen=True):
    """What one run of the generator saw."""

    answers: int
    """Complete ones: every chunk by its number, a reason of the end, and the end once."""
    failed: int
    first_error: str
    hung_up: int
    seconds: float
    answers_per_s: float
    chunks: int
    cpu_s: float
    """Of the generator itself."""
    first_ms: Percentiles | None
    total_ms: Percentiles | None
    chunk_delay_ms: Percentiles | None
    """From the upstream's sending of a chunk to its arrival, of stamped streams."""
    timeline: list[Step] = []


@dataclass(frozen=True, kw_only=True)
class Load:
    """One kind of load: the generator's flags by their names. ``load --help`` says what each means."""

    url: str
    key: str = ""
    model: str = "bench"
    models: int = 1
    clients: int = 1
    rate: float = 0.0
    in_flight_max: int = 20_000
    seconds: float = 0.0
    requests: int = 0
    ramp_s: float = 0.0
    timeout_s: float = 60.0
    stream: bool = False
    usage: bool = False
    chunks: int = 50
    pace_ms: float = 0.0
    stamped: bool = False
    chunk_bytes: int = 0
    prompt_bytes: str = "400"
    read_bytes_per_s: int = 0
    hang_up_after: int = 0
    fault: str = ""
    curve: bool = False
    timeline_ms: int = 0

    @property
    def command(self) -> list[str]:
        """The generator with these flags. Raises :class:`bench.process.NotReady` if it cannot be built."""
        return [str(build("load")), *(_flag(each.name, getattr(self, each.name)) for each in fields(self))]

    def run(self) -> Sample:
        """Ask until it is done. Raises :class:`LoadFailed`."""
        return finished(self.start())

    def start(self) -> subprocess.Popen[bytes]:
        """Begin to ask; :func:`finished` waits for the end."""
        return subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(generator: subprocess.Popen[bytes], within_s: float | None = None) -> Sample:
    """What a generator saw, when it is done. Raises :class:`LoadFailed`, also after ``within_s``."""
    try:
        out, err = generator.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        generator.kill()
        generator.communicate()
        raise LoadFailed(f"It was not done within {within_s:.0f} s.") from None
    if generator.returncode:
        raise LoadFailed(err.decode(errors="replace").strip())
    return msgspec.json.decode(out, type=Sample)


def _flag(name: str, value: str | float | bool) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"--{name.replace('_', '-')}={text}"
