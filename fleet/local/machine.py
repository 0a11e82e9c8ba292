"""What this machine has: a device for a model, memory and disk."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


class NotEnough(Exception):
    """The machine has too little of something: a sentence with both figures."""


@dataclass(frozen=True)
class Machine:
    """``memory_bytes`` is free memory where the model will be: on the largest GPU, or the host's."""

    device: str
    name: str
    memory_bytes: int


def find_machine(wanted: str = "") -> Machine:
    """The device that is wanted, or the best that is there: an NVIDIA GPU, an Apple one, or the processor.

    Where another one is wanted than the best, what it has is not looked up: the model passes through the host's memory.
    """
    best = _best()
    if wanted in ("", "auto", best.device):
        return best
    return Machine(wanted, "this machine", psutil.virtual_memory().available)


def _best() -> Machine:
    try:
        import pynvml
    except ImportError:
        return _without_nvidia()
    try:
        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
            best = max(handles, key=lambda handle: pynvml.nvmlDeviceGetMemoryInfo(handle).free)
            name = pynvml.nvmlDeviceGetName(best)
            return Machine("cuda", str(name), int(pynvml.nvmlDeviceGetMemoryInfo(best).free))
        finally:
            pynvml.nvmlShutdown()
    except (ValueError, pynvml.NVMLError):
        return _without_nvidia()  # no driver, or no GPU


def _without_nvidia() -> Machine:
    free = psutil.virtual_memory().available
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Machine("mps", "Apple GPU", free)
    return Machine("cpu", platform.processor() or platform.machine(), free)


def require_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises :class:`NotEnough` if what is to be written would not fit."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise NotEnough(
            f"{what} needs {needed_bytes / GIB:.1f} GiB on the disk of {folder}; {free / GIB:.1f} are free."
        )


def require_memory(machine: Machine, weights_bytes: int) -> None:
    """Raises :class:`NotEnough` if the weights alone would not fit. What a context takes comes to that."""
    if machine.memory_bytes < weights_bytes:
        raise NotEnough(
            f"The model's weights need {weights_bytes / GIB:.1f} GiB of memory; {machine.memory_bytes / GIB:.1f} are "
            f"free on {machine.name}. Take a smaller model, a quantized one, or DTYPE=bfloat16."
        )
