"""Extents of the cache, and who is in the batch: no two rows in one place, nobody forgotten."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from workernode.local.server.steps.extents import Extent, Extents, size_for
from workernode.local.server.steps.row import Row
from workernode.local.server.steps.schedule import REGROW_STEPS, Schedule


@given(st.integers(64, 8192), st.lists(st.tuples(st.integers(1, 1000), st.booleans()), max_size=60))
def test_extents_never_overlap_and_all_come_back(tokens: int, wishes: list[tuple[int, bool]]) -> None:
    extents = Extents(tokens)
    taken: list[Extent] = []
    for wish, gives in wishes:
        if gives and taken:
            extents.give(taken.pop(wish % len(taken)))
        elif (extent := extents.take(wish)) is not None:
            assert extent.size >= wish
            assert extent.start % extent.size == 0
            assert extent.start + extent.size <= tokens
            assert all(extent.start + extent.size <= e.start or e.start + e.size <= extent.start for e in taken)
            taken.append(extent)
        assert extents.used == sum(each.size for each in taken)
    for extent in taken:
        extents.give(extent)
    # All is in one piece again: the largest extent there can be is free.
    assert extents.take(1 << (tokens.bit_length() - 1)) is not None


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 60)), min_size=1, max_size=20),
    st.integers(1, 8),
    st.sampled_from([256, 512, 2048]),
    st.integers(0, 30),
)
def test_every_row_gets_its_tokens_in_any_cache_and_after_any_shortage(
    asked: list[tuple[int, int]], rows_max: int, kv_tokens: int, short_at: int
) -> None:
    schedule = Schedule(rows_max=rows_max, kv_tokens=kv_tokens, prefill_tokens=64)
    rows = [Row(number, 0, [1] * prompt, most) for number, (prompt, most) in enumerate(asked)]
    rows = [row for row in rows if size_for(row.prompt_length + row.max_tokens) <= kv_tokens]
    for row in rows:
        schedule.add(row)
    refused: list[Row] = []
    for step in range(10_000):
        if not (schedule.running or schedule.waiting):
            break
        plan = schedule.plan()
        assert plan.parts
        assert len({id(part.row) for part in plan.parts}) == len(plan.parts) <= rows_max
        places = [part.row.extent for part in plan.parts]
        assert all(place is not None and place.size >= part.end for place, part in zip(places, plan.parts, strict=True))
        assert all(part.start == part.row.computed for part in plan.parts)
        if step == short_at:
            refused += [row for row in [schedule.out_of_memory()] if row is not None]
            continue
        schedule.computed(plan)
        for part in plan.parts:
            if part.row.computed == len(part.row.tokens):
                part.row.tokens.append(2)
                if part.row.generated == part.row.max_tokens:
                    schedule.leave(part.row)
    assert all(row.generated == row.max_tokens for row in rows if row not in refused)
    assert schedule.extents.used == 0


def test_a_batch_that_was_shrunk_has_one_more_after_each_so_many_good_steps() -> None:
    schedule = Schedule(rows_max=8, kv_tokens=8192, prefill_tokens=64)
    for number in range(8):
        schedule.add(Row(number, 0, [1], 1000))

    def good_step() -> int:
        plan = schedule.plan()
        schedule.computed(plan)
        for row in schedule.running:
            row.tokens.append(2)
        return len(plan.parts)

    assert [good_step() for _ in range(3)] == [8] * 3
    schedule.plan()
    assert schedule.out_of_memory() is None
    found = [good_step() for _ in range(6 * REGROW_STEPS)]
    assert found == [min(8, 4 + number // REGROW_STEPS) for number in range(6 * REGROW_STEPS)]


@given(st.integers(0, 2))
def test_a_prompt_as_long_as_the_cache_that_is_only_read_has_its_place(max_tokens: int) -> None:
    schedule = Schedule(rows_max=8, kv_tokens=256, prefill_tokens=256)
    schedule.add(Row(0, 0, [1] * (256 - max_tokens), max_tokens))
    assert [part.end for part in schedule.plan().parts] == [256 - max_tokens]


@given(st.integers(1, 300), st.integers(1, 5))
def test_where_a_prompt_is_cut_depends_on_nothing_but_itself(prompt: int, others: int) -> None:
    def cuts(company: int) -> list[tuple[int, int]]:
        schedule = Schedule(rows_max=8, kv_tokens=8192, prefill_tokens=64)
        for number in range(company):
            schedule.add(Row(number + 1, 0, [1] * (17 * number + 5), 100))
        row = Row(0, 0, [1] * prompt, 1)
        schedule.add(row)
        found = []
        while row.computed < prompt:
            plan = schedule.plan()
            schedule.computed(plan)
            for part in plan.parts:
                if part.row is row:
                    found.append((part.start, part.end))
                elif part.yields:
                    part.row.tokens.append(1)
        return found

    assert cuts(others) == cuts(0)


def _holds(cache: dict[int, object], row: Row) -> bool:
    """Whether the cache has the row's own tokens where they should be; those of a prompt are its request's."""
    assert row.extent is not None
    places = range(row.extent.start, row.extent.start + row.computed)
    return [cache.get(place) for place in places] == _kept(row)[: row.computed]


def _kept(row: Row) -> list[object]:
    own = range(row.prompt_length, len(row.tokens))
    return [*((row.request, place) for place in range(row.prompt_length)), *((row.request, row.choice, n) for n in own)]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60), st.integers(1, 4)), min_size=1, max_size=12),
    st.integers(1, 8),
    st.sampled_from([256, 512, 2048]),
    st.sets(st.integers(0, 60), max_size=4),
    st.dictionaries(st.integers(0, 60), st.integers(0, 11), max_size=4),
)
def test_choices_have_their_prompt_in_the_cache_whoever_computed_it(
    asked: list[tuple[int, int, int]], rows_max: int, kv_tokens: int, short_at: set[int], dropped: dict[int, int]
) -> None:
    schedule = Schedule(rows_max=rows_max, kv_tokens=kv_tokens, prefill_tokens=64)
    rows = [
        Row(number, choice, [1] * prompt, most)
        for number, (prompt, most, choices) in enumerate(asked)
        for choice in range(choices)
        if size_for(prompt + most) <= kv_tokens
    ]
    for row in rows:
        schedule.add(row)
    cache: dict[int, object] = {}
    gone: set[int] = set()
    ended: list[Row] = []
    for step in range(10_000):
        if step in dropped:
            schedule.drop(dropped[step])
            gone.add(dropped[step])
        if not (schedule.running or schedule.waiting):
            break
        plan = schedule.plan()
        assert plan.parts
        for move in plan.moves:
            for place in range(move.tokens):
                cache[move.target.start + place] = cache.get(move.source.start + place)
        assert all(_holds(cache, row) for row in schedule.running)
        if step in short_at:
            refused = schedule.out_of_memory()
            if refused is not None:
                schedule.drop(refused.request)
                gone.add(refused.request)
            continue
        for part in plan.parts:
            assert part.row.extent is not None
            for place in range(part.start, part.end):
                cache[part.row.extent.start + place] = _kept(part.row)[place]
        schedule.computed(plan)
        ends = [each for part in plan.parts if part.yields for each in (part.row, *schedule.share(part.row))]
        for row in ends:
            if row.max_tokens > 0:
                row.tokens.append(2)
            if row.generated == row.max_tokens:
                schedule.leave(row)
                ended.append(row)
    assert [row for row in rows if row not in ended and row.request not in gone] == []
    assert len(set(map(id, ended))) == len(ended)
    assert schedule.extents.used == 0


@given(st.integers(1, 1000), st.integers(1, 8))
def test_a_prompt_is_computed_once_for_all_choices(prompt: int, choices: int) -> None:
    schedule = Schedule(rows_max=8, kv_tokens=2**16, prefill_tokens=64)
    for choice in range(choices):
        schedule.add(Row(0, choice, [1] * prompt, 1))
    computed = 0
    while schedule.running or schedule.waiting:
        plan = schedule.plan()
        schedule.computed(plan)
        computed += sum(part.end - part.start for part in plan.parts)
        for part in plan.parts:
            for row in (part.row, *schedule.share(part.row)) if part.yields else ():
                schedule.leave(row)
    assert computed == prompt


@example(128, 3, 2)  # no part of it is a chunk begun
@given(st.integers(65, 1000), st.integers(2, 8), st.integers(1, 3))
def test_a_choice_that_finds_a_place_later_computes_the_last_chunk_of_its_prompt_only(
    prompt: int, choices: int, rows_max: int
) -> None:
    schedule = Schedule(rows_max=rows_max, kv_tokens=2**16, prefill_tokens=64)
    first, *others = [Row(0, choice, [1] * prompt, 500 if choice == 0 else 3) for choice in range(choices)]
    for row in (first, *others):
        schedule.add(row)
    while first.generated == 0:
        _step(schedule)
    computed = 0
    while any(row.generated < row.max_tokens for row in others) and rows_max > 1:
        plan = schedule.plan()
        assert all(part.end > part.start for part in plan.parts)
        computed += sum(part.end - part.start for part in plan.parts if not part.row.decodes)
        schedule.computed(plan)
        for row in [part.row for part in plan.parts if part.yields]:
            row.tokens.append(2)
            if row.generated == row.max_tokens:
                schedule.leave(row)
    assert computed <= 64 * len(others)


def test_a_choice_that_has_begun_its_answer_takes_nothing_that_follows_from_the_prompt() -> None:
    """It was postponed, and computes its own tokens anew."""
    schedule = Schedule(rows_max=8, kv_tokens=1024, prefill_tokens=64)
    first, begun, other = (Row(0, choice, [1] * 9, 5) for choice in range(3))
    begun.tokens += [2, 2]
    for row in (first, begun, other):
        schedule.add(row)
    schedule.computed(schedule.plan())
    assert schedule.share(first) == [other]


def test_choices_that_shared_a_prompt_are_computed_anew_where_nothing_could_follow_from_it() -> None:
    schedule = Schedule(rows_max=8, kv_tokens=1024, prefill_tokens=64)
    rows = [Row(0, choice, [1] * 9, 5) for choice in range(3)]
    for row in rows:
        schedule.add(row)
    plan = schedule.plan()
    schedule.computed(plan)
    assert schedule.share(rows[0]) == rows[1:]
    schedule.take_back(plan)
    assert [row.computed for row in rows] == [0, 8, 8]
    parts = schedule.plan().parts
    assert all(part.yields and part.start < part.end for part in parts)
    assert {part.row.choice for part in parts} == {0, 1, 2}


def test_rows_that_are_postponed_wait_before_those_that_came_later() -> None:
    schedule = Schedule(rows_max=4, kv_tokens=1024, prefill_tokens=64)
    rows = [Row(number, 0, [1], 5) for number in range(8)]
    for row in rows:
        schedule.add(row)
    schedule.plan()
    schedule.out_of_memory()
    assert (schedule.running, schedule.waiting) == (rows[:2], rows[2:])


def test_no_step_has_two_chunks_of_prompts() -> None:
    """Who waits for a next token would wait for all of them."""
    schedule = Schedule(rows_max=8, kv_tokens=2**16, prefill_tokens=64)
    for number in range(8):
        schedule.add(Row(number, 0, [1] * (100 * number + 1), 5))
    while schedule.running or schedule.waiting:
        parts = schedule.plan().parts
        assert sum(part.end - part.start for part in parts if not part.row.decodes) < 2 * 64
        for part in parts:
            part.row.computed = part.end
            if part.yields:
                schedule.leave(part.row)


def _step(schedule: Schedule) -> list[Row]:
    """One step; the rows that got a token."""
    plan = schedule.plan()
    schedule.computed(plan)
    found = [part.row for part in plan.parts if part.yields]
    for row in found:
        row.tokens.append(2)
        if row.generated == row.max_tokens:
            schedule.leave(row)
    return found


@given(st.integers(1, 5), st.integers(0, 10), st.integers(1, 64))
def test_a_short_prompt_waits_for_at_most_one_step_of_long_ones(long: int, steps: int, short: int) -> None:
    schedule = Schedule(rows_max=8, kv_tokens=2**16, prefill_tokens=64)
    for number in range(long):
        schedule.add(Row(number, 0, [1] * 5000, 10))
    for _ in range(steps):
        _step(schedule)
    row = Row(100, 0, [1] * short, 10)
    schedule.add(row)
    assert row in _step(schedule) + _step(schedule)


@given(
    st.integers(1, 16),
    st.sampled_from([2048, 4096, 16384]),
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 20)), min_size=1, max_size=5),
    st.integers(0, 10),
)
@example(16, 16384, [(200, 1)], 0)  # enough of them for all of each step
@example(1, 4096, [(1, 2)], 0)  # the only place is free whenever it is a short one's turn
@example(4, 2048, [(1, 1), (1, 4)], 2)  # there are never free places enough side by side
def test_a_long_prompt_is_not_starved_by_short_ones_that_keep_coming(
    rows_max: int, kv_tokens: int, shorts: list[tuple[int, int]], steps: int
) -> None:
    schedule = Schedule(rows_max=rows_max, kv_tokens=kv_tokens, prefill_tokens=64)
    row = Row(0, 0, [1] * 1500, 1)
    schedule.add(Row(-1, 0, [1], 1))
    endless = enumerate(itertools.cycle(shorts), 1)
    for step in range(500):
        if step == steps:
            schedule.add(row)
        while len(schedule.waiting) < 4:
            number, (prompt, most) = next(endless)
            schedule.add(Row(number, 0, [1] * prompt, most))
        if row in _step(schedule):
            break
    # Those before it, and then every other step at least.
    assert step < 400
    assert row.generated == 1
