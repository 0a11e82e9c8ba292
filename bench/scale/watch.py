"""What processes hold while something runs: memory, open files and processor time, sampled by a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from bench.process import Process

MIB = 2**20


class Sampled(msgspec.Struct, frozen=True):
    """One look at one process and its children."""

    at_s: float
    resident_mib: float
    files: int
    cpu_s: float


class Watch:
    """Looks at all processes now, every so often while the block runs, and at its end. Who has ended is left out."""

    def __init__(self, processes: Sequence[Process], every_s: float) -> None:
        self.seen: dict[str, list[Sampled]] = {process.name: [] for process in processes}
        self._processes = processes
        self._every_s = every_s
        self._began = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def grown_mib(self, names: Sequence[str]) -> tuple[float, float]:
        """What these processes held at first, and the most that they held."""
        held = [[each.resident_mib for each in self.seen[name]] for name in names]
        return round(sum(each[0] for each in held), 2), round(sum(max(each) for each in held), 2)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                at_s = round(time.perf_counter() - self._began, 2)
                resident_mib = round(process.resident_bytes / MIB, 2)
                self.seen[process.name].append(Sampled(at_s, resident_mib, process.files, round(process.cpu_s, 2)))
