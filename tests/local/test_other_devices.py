"""What differs where neither Linux nor CUDA is: devices that are in no machine of ours are stood in for."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from workernode.local.server.steps.attention import CachedAttention
from workernode.local.server.steps.batch import Batch
from workernode.local.server.steps.forward import Forward
from workernode.local.server.steps.memory import free_bytes

if TYPE_CHECKING:
    import pytest


def test_free_memory_is_known_where_there_is_no_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysconf(name: str) -> int:
        raise ValueError(f"unrecognized configuration name {name}")  # as on macOS, of what Linux has beyond POSIX

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert free_bytes(torch.device("mps")) > 0


class _Elsewhere:
    """Logits on a device that is not here."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)

    def __getitem__(self, _: Any) -> _Elsewhere:
        return self

    def float(self) -> _Elsewhere:
        return self

    def cpu(self) -> torch.Tensor:
        return torch.zeros(1, 3)


def test_tokens_are_chosen_where_there_is_float64() -> None:
    """MPS has none, nor have some of Intel's and Huawei's: what is added up in it would end the engine."""
    for kind, stays in (("mps", False), ("xpu", False), ("cuda", True)):
        made: Any = _Elsewhere(kind)
        forward = Forward(
            lambda made=made, **_: SimpleNamespace(logits=made), CachedAttention(), torch.device("cpu"), scratch_place=0
        )
        logits = forward.logits(Batch([], [1], [0], [0], [], []), [0])
        assert (logits is made) == stays
        assert stays or logits.device.type == "cpu"
