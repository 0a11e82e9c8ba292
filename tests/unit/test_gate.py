"""A gate lets slots pass at the pace, and wakes by itself when the next may pass."""

from __future__ import annotations

import asyncio
import math
from unittest.mock import Mock

from tests.waiting import until
from workernode.gate import Gate, Unpaced


class ScriptedPace(Unpaced):
    """Says how long to wait."""

    held_s: float | None = None

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits
        self.out = 0

    def wait_s(self) -> float:
        return self.waits[0]

    def permit(self) -> bool:
        self.waits.pop(0)
        self.out += 1
        return False


async def test_slots_pass_one_by_one_as_the_pace_allows() -> None:
    pace = ScriptedPace([0.0, 0.0, 0.05, math.inf])
    gate = Gate(pace)
    gate.open()
    passing = [asyncio.ensure_future(gate.enter()) for _ in range(4)]
    await until(lambda: pace.out == 2)
    assert gate.waiting == 2
    pace.waits[0] = 0.0  # what the timer will find
    await until(lambda: pace.out == 3)
    assert gate.waiting == 1
    pace.waits[0] = 0.0
    gate.look()
    assert await asyncio.gather(*passing) == [False] * 4


async def test_a_closed_gate_asks_no_pace_and_one_that_tries_waits_for_none() -> None:
    pace = ScriptedPace([math.inf])
    gate = Gate(pace)
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.admit_one()
    assert await waiting is True


async def test_while_the_pace_holds_nobody_else_may_take_what_comes() -> None:
    pace = ScriptedPace([0.0])
    gate = Gate(pace)
    assert not gate.is_open
    gate.open()
    assert gate.is_open
    pace.held_s = 5.0
    assert not gate.is_open


async def test_who_was_cancelled_takes_no_turn() -> None:
    pace = ScriptedPace([math.inf, math.inf])
    gate = Gate(pace)
    gate.open()
    first, second = (asyncio.ensure_future(gate.enter()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    pace.waits = [0.0, math.inf]
    gate.look()
    assert await second is False
    assert pace.out == 1


async def test_a_dissolved_gate_lets_everyone_pass() -> None:
    gate = Gate(ScriptedPace([math.inf]))
    gate.open()
    waiting = [asyncio.ensure_future(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.dissolve()
    assert await asyncio.gather(*waiting) == [False] * 5


async def test_who_comes_later_takes_nobodys_turn() -> None:
    pace = ScriptedPace([math.inf, math.inf])
    gate = Gate(pace)
    gate.open()
    first = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    pace.waits = [0.0, math.inf]
    second = asyncio.ensure_future(gate.enter())
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert (done, gate.waiting) == ({first}, 1)
    second.cancel()


async def test_a_try_that_nobody_made_is_forgotten_when_the_gate_is_opened() -> None:
    gate = Gate()
    gate.admit_one()
    gate.open()
    assert await gate.enter() is False


async def test_a_try_that_nobody_made_is_forgotten_when_the_gate_is_closed() -> None:
    gate = Gate()
    gate.admit_one()
    gate.close()
    entering = asyncio.ensure_future(gate.enter())
    await until(lambda: gate.waiting == 1 or entering.done())
    assert not entering.done()
    gate.open()
    assert await entering is False


async def test_a_closed_gate_does_not_look_again_by_itself() -> None:
    """At a pace that lets the next pass at once, that would be all that the node does."""
    pace = Mock(wraps=ScriptedPace([0.0]))
    gate = Gate(pace)
    waiting = asyncio.ensure_future(gate.enter())
    await until(lambda: gate.waiting == 1)
    for _ in range(3):
        await asyncio.sleep(0)
    pace.wait_s.assert_not_called()
    waiting.cancel()
