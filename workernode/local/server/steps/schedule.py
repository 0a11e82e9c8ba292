"""Who is in the batch: requests join and leave between steps. Pure: no tensor, no clock.

What a row computes in a step depends on nothing but itself: prompts are cut at multiples of the chunk, whoever else is
there. That is half of why the same seed gives the same text in any company; the other half is in ``forward.py``.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from workernode.local.server.steps.extents import Extents
from workernode.local.server.steps.row import Move, Part, Row

REGROW_STEPS = 64
"""After so many good steps a batch that was shrunk for want of memory may have one more."""


@dataclass(frozen=True)
class Plan:
    """One step. Moves come first, in their order."""

    parts: list[Part]
    moves: list[Move]


class Schedule:
    """At most ``rows_max`` rows at once, and about ``prefill_tokens`` of prompts in a step.

    By turns the prompt that came first and the one with the least left go on first: a short one does not wait for all
    the long ones before it, and a long one not for all shorter ones. Of the choices of a request one computes the
    prompt, and the others get a copy. ``kv_tokens`` must hold one row of the longest context.
    """

    def __init__(self, *, rows_max: int, kv_tokens: int, prefill_tokens: int) -> None:
        self.extents = Extents(kv_tokens)
        self.running: list[Row] = []
        self.waiting: list[Row] = []
        """In order of arrival."""
        self._rows_max = self._rows_now = rows_max
        self._chunk = prefill_tokens
        self._good_steps = 0
        self._moves: list[Move] = []
        """Of the next plan."""
        self._arrived = 0
        self._shortest_first = True

    def add(self, row: Row) -> None:
        """A row waits for its place."""
        self._arrived += 1
        row.arrived = self._arrived
        self.waiting.append(row)

    def drop(self, request: int) -> None:
        """The rows of a request leave at once."""
        self.waiting = [row for row in self.waiting if row.request != request]
        for row in [row for row in self.running if row.request == request]:
            self.leave(row)

    def leave(self, row: Row) -> None:
        """A row is done."""
        self.running.remove(row)
        self._free(row)

    def plan(self) -> Plan:
        """The next step: every running row goes on by a token, prompts by what fits beside them."""
        for row in list(self.running):
            if row in self.running and not self._grow(row):
                self._make_room(row)
        parts = [Part(row, row.computed, len(row.tokens)) for row in self.running if row.decodes]
        budget = self._chunk
        for row in self._prompts():
            if budget > 0 and (row.extent is not None or self._join(row)):
                budget -= self._advance(row, parts)
        moves, self._moves = self._moves, []
        return Plan(parts, moves)

    def computed(self, plan: Plan) -> None:
        """The step went well: the cache holds its parts."""
        for part in plan.parts:
            part.row.computed = part.end
        self._good_steps += 1
        if self._rows_now < self._rows_max and self._good_steps % REGROW_STEPS == 0:
            self._rows_now += 1

    def take_back(self, plan: Plan) -> None:
        """What should have followed from the step could not be had: it is computed anew, from where it began. Of rows
        that share a prompt, the last token."""
        for part in plan.parts:
            part.row.computed = part.start
        for row in self.running:
            row.computed = min(row.computed, len(row.tokens) - 1)

    def share(self, row: Row) -> list[Row]:
        """The choices that go on beside a row whose prompt has just been computed, as many as have a place: what
        follows from the prompt is theirs too."""
        found: list[Row] = []
        if row.generated == 0:
            for twin in [each for each in self.waiting if each.request == row.request and each.generated == 0]:
                if not self._admit(twin):
                    break
                self._copy(row, twin, row.computed)
                found.append(twin)
        return found

    def out_of_memory(self) -> Row | None:
        """The step did not fit: the younger half waits again. The row to refuse, if there was only one."""
        self._good_steps = 0
        if len(self.running) == 1:
            row = self.running[0]
            self.leave(row)
            return row
        self._rows_now = max(1, len(self.running) // 2)
        for row in self.running[self._rows_now :]:
            self._postpone(row)
        return None

    def _prompts(self) -> list[Row]:
        """In the order in which they go on in this step; those that wait too, where there is a place for the first."""
        self._shortest_first = not self._shortest_first
        prompts = [row for row in self.running if not row.decodes]
        if self.waiting and len(self.running) < self._rows_now and self.extents.fits(_needed(self.waiting[0])):
            begun = {row.request for row in prompts}
            for row in self.waiting:
                if row.request not in begun:  # by another choice, which will share it
                    begun.add(row.request)
                    prompts.append(row)
        first = None if self._shortest_first else min(prompts, key=lambda row: row.arrived, default=None)
        return sorted(prompts, key=lambda row: (row is not first, len(row.tokens) - row.computed, row.arrived))

    def _advance(self, row: Row, parts: list[Part]) -> int:
        end = min(len(row.tokens), row.computed - row.computed % self._chunk + self._chunk)
        parts.append(Part(row, row.computed, end))
        return end - row.computed

    def _join(self, row: Row) -> bool:
        """A waiting row begins, after the chunks of its prompt that another choice of its request has computed."""
        if not self._admit(row):
            return False
        tokens = (row.prompt_length - 1) // self._chunk * self._chunk  # the last chunk says what follows
        for twin in self.running:
            if twin.request == row.request and twin.computed >= tokens > 0:
                self._copy(twin, row, tokens)
                break
        return True

    def _copy(self, source: Row, target: Row, tokens: int) -> None:
        assert source.extent is not None
        assert target.extent is not None
        self._moves.append(Move(source.extent, target.extent, tokens))
        target.computed = tokens

    def _admit(self, row: Row) -> bool:
        """Give a waiting row its place, unless that takes the place of the one that came first."""
        first = self.waiting[0]
        if len(self.running) + (row is not first) >= self._rows_now:
            return False
        extent = self.extents.take(_needed(row))
        if extent is None:
            return False
        if row is not first and not self.extents.fits(_needed(first)):
            self.extents.give(extent)
            return False
        self.waiting.remove(row)
        row.extent = extent
        self.running.append(row)
        return True

    def _grow(self, row: Row) -> bool:
        old = row.extent
        if old is None or len(row.tokens) <= old.size:
            return True
        new = self.extents.take(len(row.tokens))
        if new is None:
            return False
        self._moves.append(Move(old, new, row.computed))
        # The old place stays taken until the next plan would be too careful: moves are done in order, before any write.
        self.extents.give(old)
        row.extent = new
        return True

    def _make_room(self, row: Row) -> None:
        """The youngest give up their places, and at last the row itself."""
        while True:
            victim = self.running[-1]
            self._postpone(victim)
            if victim is row or self._grow(row):
                return

    def _postpone(self, row: Row) -> None:
        """Back to the queue; what it has generated is computed anew like a prompt."""
        self.leave(row)
        row.computed = 0
        bisect.insort(self.waiting, row, key=lambda each: each.arrived)

    def _free(self, row: Row) -> None:
        if row.extent is not None:
            self.extents.give(row.extent)
            row.extent = None


def _needed(row: Row) -> int:
    """The tokens of its first place: it is about to get one more, unless it is only read."""
    return len(row.tokens) + (row.max_tokens > 0)
