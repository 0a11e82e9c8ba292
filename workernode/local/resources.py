"""How full the memory of this machine, container or GPU is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60


@dataclass(frozen=True)
class MemoryUse:
    """Shares of 0 to 1; None where nobody can tell."""

    host: float | None
    gpu: float | None


@dataclass
class Resources:
    """``host_max_gib`` bounds this process and its children, beside what the machine and the container have."""

    host_max_gib: float | None = None
    gpus: list[int] | None = None
    """Those that are looked at, by their numbers; None for all."""
    cgroup: Path = CGROUP
    _nvml: Any = field(default=None, init=False)
    _devices: list[Any] = field(default_factory=list, init=False)

    def open(self) -> None:
        """Find the GPUs, if there are any that NVIDIA's library knows."""
        with contextlib.suppress(Exception):  # no driver, no library, no such GPU: then nothing is told of them
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            numbers = range(pynvml.nvmlDeviceGetCount()) if self.gpus is None else self.gpus
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]

    def close(self) -> None:
        """Let go of the library."""
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()

    def use(self) -> MemoryUse:
        """As of now: the fullest of everything that bounds the host's, and the fullest GPU."""
        machine = psutil.virtual_memory()
        hosts = [1 - machine.available / machine.total, *self._container_use(), *self._own_use()]
        return MemoryUse(max(hosts), max(self._gpu_uses(), default=None))

    def _container_use(self) -> list[float]:
        limit, used = _number(self.cgroup / "memory.max"), _number(self.cgroup / "memory.current")
        if limit is None or used is None or not 0 < limit < _UNLIMITED:
            return []
        return [max(0.0, used - self._reclaimable()) / limit]

    def _reclaimable(self) -> int:
        """Files in memory that the kernel drops before it kills anybody: a model that was just read is such."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self.cgroup / "memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "inactive_file":
                    return int(value)
        return 0

    def _own_use(self) -> list[float]:
        if self.host_max_gib is None:
            return []
        used = 0
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                used += process.memory_info().rss
        return [used / (self.host_max_gib * GIB)]

    def _gpu_uses(self) -> list[float]:
        uses = []
        for device in self._devices:
            with contextlib.suppress(Exception):  # a GPU that falls off the bus is the engine's trouble
                memory = self._nvml.nvmlDeviceGetMemoryInfo(device)
                uses.append(memory.used / memory.total)
        return uses


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
