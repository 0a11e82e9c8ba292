"""How many tokens the KV cache may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from workernode.local.server.ending import CannotServe
from workernode.local.server.steps.extents import UNIT_TOKENS, size_for

_SHARE = 0.85
_SHARED_WITH_OTHERS = 0.6
"""Of the memory that is free once the model is loaded; the rest is for what a step needs besides, and where it is the
host's for other programs."""
_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """The memory that is free now, within the limits of a container."""
    if device.type not in ("cpu", "mps"):
        return int(getattr(torch, device.type).mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        # What was just read of files counts as used there, though the kernel drops it before it kills anybody.
        told = dict(line.split(" ") for line in (_CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(told["inactive_file"]))
    except (OSError, ValueError, KeyError):
        pass  # no Linux, or no limit
    return free


def own_gib() -> float:
    """What this process has in memory."""
    return psutil.Process().memory_info().rss / 2**30


def free_for_cache(model: Any, first: torch.device) -> int:
    """As :func:`free_bytes`, of a model whose layers may lie on several devices: what the fullest one leaves for all of
    the layers, were they there."""
    devices = [_device(each, first) for each in _places_of_layers(model)] or [first]
    return min(free_bytes(device) * len(devices) // devices.count(device) for device in set(devices))


def _places_of_layers(model: Any) -> list[Any]:
    placed = getattr(model, "hf_device_map", None) or {}
    return [where for name, where in placed.items() if name.rpartition(".")[2].isdigit()]


def _device(place: Any, first: torch.device) -> torch.device:
    if place in ("cpu", "disk"):
        return first  # where a layer that stays elsewhere is computed, and has its cache
    return torch.device(first.type, place) if isinstance(place, int) else torch.device(place)


def cache_tokens(
    *, kv_tokens: int, max_batch: int, context: int, context_asked: bool, token_bytes: int, free: int, device: str
) -> tuple[int, int]:
    """The tokens of the cache, and the context that is possible with them.

    Raises :class:`CannotServe` if what was asked for does not fit.
    """
    fitting = int(free * (_SHARED_WITH_OTHERS if device in ("cpu", "mps") else _SHARE)) // token_bytes
    if kv_tokens > fitting:
        raise CannotServe("out_of_memory", f"KV_TOKENS={kv_tokens} does not fit: there is memory for {fitting} tokens.")
    tokens = kv_tokens or min(fitting, max_batch * size_for(context))
    if tokens < UNIT_TOKENS:
        raise CannotServe("out_of_memory", "Beside the model there is no memory for a KV cache.")
    if size_for(context) > tokens:
        possible = 1 << (tokens.bit_length() - 1)
        if context_asked:
            raise CannotServe("out_of_memory", f"A context of {context} tokens does not fit: {possible} would.")
        context = min(context, possible)
    return tokens, context
