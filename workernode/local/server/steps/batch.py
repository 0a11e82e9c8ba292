"""How the parts of a step lie in one flat row of tokens, and which of them attention takes together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workernode.local.server.steps.extents import UNIT_TOKENS

if TYPE_CHECKING:
    from workernode.local.server.steps.row import Part


@dataclass(frozen=True)
class Run:
    """Decoding rows whose extents lie side by side and that look at equally many keys: one call of attention.

    The first of their tokens in the step, how many, the first's place in the cache, the distance to the next, the keys
    that each looks at, and of these how many are its own.
    """

    first: int
    count: int
    place: int
    stride: int
    keys: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Stretch:
    """A piece of a prompt: tokens ``first`` to ``first + count`` of the step are ``start`` and on of their row, which
    lies at ``place`` of the cache; None: it is in no cache, and begins at 0."""

    first: int
    count: int
    start: int
    place: int | None


@dataclass(frozen=True)
class Batch:
    """One step: for each token its id, position and place in the cache; then what attention is to do.

    The ids are padded: see ``forward.py``. ``order`` has the parts as they lie here.
    """

    order: list[Part]
    ids: list[int]
    positions: list[int]
    places: list[int]
    runs: list[Run]
    stretches: list[Stretch]


def keys_for(length: int) -> int:
    """How many keys a row of that length looks at, its own and masked ones: eight steps between two sizes of extents.

    By its own length alone, so that the order of its sums is the same in any company.
    """
    step = UNIT_TOKENS
    while step * 8 < length:
        step *= 2
    return -(-length // step) * step


def lay_out(parts: list[Part]) -> Batch:
    """The batch of a step."""
    decoding = sorted((part for part in parts if part.row.decodes), key=_place)
    order = decoding + [part for part in parts if not part.row.decodes]
    batch = Batch(order, [], [], [], [], [])
    for part in order:
        place = _place(part)
        first = len(batch.ids)
        count = part.end - part.start
        batch.ids.extend(part.row.tokens[part.start : part.end])
        batch.positions.extend(range(part.start, part.end))
        batch.places.extend(range(place + part.start, place + part.end))
        if not part.row.decodes:
            batch.stretches.append(Stretch(first, count, part.start, place))
    batch.runs.extend(_runs(decoding))
    return batch


def _runs(parts: list[Part]) -> list[Run]:
    runs: list[Run] = []
    for number, part in enumerate(parts):
        extent = part.row.extent
        assert extent is not None
        keys = min(keys_for(part.end), extent.size)
        last = runs[-1] if runs else None
        joins = (
            last is not None
            and (last.stride, last.keys) == (extent.size, keys)
            and last.place + last.count * last.stride == extent.start
        )
        if last is not None and joins:
            runs[-1] = Run(last.first, last.count + 1, last.place, last.stride, keys, (*last.lengths, part.end))
        else:
            runs.append(Run(number, 1, extent.start, extent.size, keys, (part.end,)))
    return runs


def _place(part: Part) -> int:
    assert part.row.extent is not None
    return part.row.extent.start
