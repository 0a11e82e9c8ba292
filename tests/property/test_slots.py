"""Slots of a local model: within their bounds whatever is seen, at what a machine can do, and fair to what changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workernode.local.slots import HOST_MEMORY_USE_MAX, SETTLE_TICKS, Load, Slots

TARGET_S = 10.0
shares = st.none() | st.floats(0, 1.5)
loads = st.builds(
    Load,
    busy=st.integers(0, 5000),
    waiting=st.none() | st.integers(0, 100),
    kv_cache_use=shares,
    first_token_s=st.none() | st.floats(0, 1000),
    gpu_memory_use=shares,
    host_memory_use=shares,
)


@given(st.integers(1, 4096), st.lists(loads, max_size=60))
def test_there_is_always_one_slot_and_never_more_than_allowed(count_max: int, seen: list[Load]) -> None:
    slots = Slots(count_max, TARGET_S)
    for load in seen:
        before = slots.count
        after = slots.tick(load)
        assert 1 <= after <= count_max
        assert after <= 2 * before
        if load.host_memory_use is not None and load.host_memory_use > HOST_MEMORY_USE_MAX:
            assert after <= before, "it grew under pressure"
        if load.busy < before:
            assert after <= before, "it grew though there was room"


@given(st.lists(loads, max_size=60), st.integers(1, 64))
@settings(max_examples=50)
def test_after_any_history_a_quiet_machine_with_work_gets_all_its_slots(seen: list[Load], count_max: int) -> None:
    slots = Slots(count_max, TARGET_S)
    for load in seen:
        slots.tick(load)
    for _ in range(64 * (SETTLE_TICKS + 1)):
        slots.tick(Load(busy=slots.count))
    assert slots.count == count_max


@given(st.lists(loads, max_size=60))
def test_lasting_pressure_takes_all_slots_but_one(seen: list[Load]) -> None:
    slots = Slots(4096, TARGET_S)
    for load in seen:
        slots.tick(load)
    for _ in range(40 * SETTLE_TICKS):
        slots.tick(Load(busy=slots.count, host_memory_use=1.0))
    assert slots.count == 1


def test_one_look_at_a_waiting_request_is_no_pressure() -> None:
    slots = Slots(8, TARGET_S)
    for number in range(100):
        slots.tick(Load(busy=slots.count, waiting=int(number % 2 == 0)))
    assert slots.count == 8


@dataclass
class Machine:
    """A model on a machine, as a simulation: what it can do at once, and what each request takes of the memory."""

    batch: int = 1000
    memory_each: float = 0.0
    memory_base: float = 0.3
    first_token_each_s: float = 0.0
    lag_ticks: int = 3
    """A request has its memory after so many ticks."""

    def __post_init__(self) -> None:
        self._busy = [0] * self.lag_ticks

    def load(self, busy: int) -> Load:
        """What is seen while so many requests are under way."""
        self._busy.append(busy)
        return Load(
            busy=busy,
            waiting=max(0, busy - self.batch),
            host_memory_use=self.memory_base + self.memory_each * self._busy[-1 - self.lag_ticks],
            first_token_s=busy * self.first_token_each_s or None,
        )


@pytest.mark.parametrize(
    ("machine", "can"),
    [
        (Machine(batch=12), 12),
        (Machine(memory_each=0.05), 10),
        (Machine(memory_each=0.05, lag_ticks=SETTLE_TICKS - 1), 10),
        (Machine(memory_each=0.2), 2),
        (Machine(first_token_each_s=0.5), 20),
        (Machine(), 128),
    ],
    ids=["batch", "memory", "memory that comes late", "large requests", "slow", "fast"],
)
def test_the_slots_come_to_what_a_machine_can_do_and_stay_there(machine: Machine, can: int) -> None:
    slots = Slots(128, TARGET_S)
    counts, uses = [], []
    machine.load(0)
    for _ in range(600):
        load = machine.load(slots.count)  # there is always more work than slots
        uses.append(load.host_memory_use or 0)
        counts.append(slots.tick(load))
    late = counts[200:]
    assert sum(late) / len(late) >= 0.7 * can, "it idles"
    assert max(late) <= can + 1
    assert max(uses) <= 1.0, "it swaps"


@pytest.mark.parametrize(("kv_cache_use", "can"), [(0.2, 32), (None, 1)], ids=["taken in advance", "taken as it goes"])
def test_a_gpu_that_an_engine_has_filled_in_advance_is_no_pressure(kv_cache_use: float | None, can: int) -> None:
    """As with weights of four fifths of it: our own server takes 85 % of the rest for its cache."""
    slots, weights = Slots(32, TARGET_S), 0.9
    full = weights + 0.85 * (1 - weights)
    for _ in range(40 * SETTLE_TICKS):
        slots.tick(Load(busy=slots.count, kv_cache_use=kv_cache_use, gpu_memory_use=full))
    assert slots.count == can


def test_after_a_restart_the_engine_itself_is_not_taken_for_requests() -> None:
    """While it was dead, what it had was free."""
    slots = Slots(32, TARGET_S)
    for _ in range(20):
        slots.tick(Load(busy=slots.count, host_memory_use=0.72))
    for _ in range(20 * SETTLE_TICKS):
        slots.tick(Load(busy=slots.count, waiting=5, host_memory_use=0.72))
    assert slots.count == 1
    slots.tick(Load(busy=0, host_memory_use=0.1))
    slots.begin_anew()
    for _ in range(400):
        slots.tick(Load(busy=slots.count, host_memory_use=0.72))
    assert slots.count == 32


def test_a_machine_that_others_use_too_is_left_to_them_and_taken_back() -> None:
    slots, machine = Slots(128, TARGET_S), Machine(memory_each=0.05)
    for phase, base, least, most in ((1, 0.3, 7, 10), (2, 0.7, 1, 4), (3, 0.3, 7, 10)):
        machine.memory_base = base
        for _ in range(200):
            slots.tick(machine.load(slots.count))
        assert least <= slots.count <= most, phase
