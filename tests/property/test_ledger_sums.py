"""The ledger's sums are those of a dictionary, whatever is repeated, shuffled, batched or rebuilt."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from management.ledger.journal import read, write
from management.ledger.rebuild import rebuild
from store import database
from store.database import reading
from store.tables import CHARGES, ENDS, EVENTS, NODES, QUARANTINE, USAGE_DAILY, USAGE_ROLLUP
from tests.billing import NOON_MS, billed, event, node_event, request_data, request_id_of
from wire.usage import REQUEST_TOKENS_MAX, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True)
class Told:
    """One message, and what a dictionary needs to know of it."""

    payload: bytes
    event_id: str
    usage_key: tuple[str, str, str, str] | None = None
    usage: tuple[int, int] = (0, 0)
    node: tuple[str, int, str] | None = None
    end: tuple[str, str] | None = None


def _billed(number: int, day: int, model: str, key: str | None, node: str, tokens: tuple[int, int]) -> Told:
    date = f"2026-03-{day:02}"
    payload = billed(
        number,
        time=f"{date}T23:59:59.999Z",
        model=model,
        key_id=key,
        node=node,
        usage=Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1]),
    )
    end = (request_id_of(number), "answered")
    return Told(payload, f"charge-{request_id_of(number)}", (date, model, key or "", node), tokens, end=end)


def _cost(number: int) -> Told:
    event_id = f"cost-{number}"
    return Told(event(event_id, "request.cost", request_data(number)), event_id)


def _end(number: int, kind: str) -> Told:
    event_id = f"{kind}-{request_id_of(number)}"
    payload = event(event_id, f"request.{kind}", request_data(number, status=kind))
    return Told(payload, event_id, end=(request_id_of(number), kind))


def _node(number: int, node: str, kind: str) -> Told:
    # No two of them tell the same moment, so that any order has one latest.
    payload = node_event(f"node-{number}", kind, node=node, time=f"2026-03-01T00:00:00.{number:03}Z")
    return Told(payload, f"node-{number}", node=(node, number, kind))


def _garbage(text: bytes) -> Told:
    return Told(b"\xff" + text, "")


tokens = st.integers(0, 1000) | st.just(REQUEST_TOKENS_MAX)
charges = st.builds(
    _billed,
    st.integers(0, 12),
    st.integers(1, 2),
    st.sampled_from(["small", "großes/modell"]),
    st.sampled_from([None, "", "key-a", "key-b"]),
    st.sampled_from(["node-a", "node-b"]),
    st.tuples(tokens, tokens),
)
messages = st.one_of(
    charges,
    charges,
    st.builds(_cost, st.integers(0, 3)),
    st.builds(_end, st.integers(0, 12), st.sampled_from(["failed", "cancelled", "expired", "dead", "abandoned"])),
    st.builds(
        _node,
        st.integers(0, 9),
        st.sampled_from(["node-a", "node-b"]),
        st.sampled_from(["node.started", "node.stopped"]),
    ),
    st.builds(_garbage, st.binary(max_size=2)),
)


DAY_MS = 86_400_000
WEIGHTS = ("answered", "dead", "failed", "expired", "cancelled", "abandoned")


class Dictionary:
    """What the ledger should come to. The first telling of an id counts."""

    def __init__(self, told: list[Told]) -> None:
        self.ids: set[str] = set()
        self.rollups: Counter[tuple[str, ...]] = Counter()
        self.usage: dict[tuple[str, str, str, str], tuple[int, int, int]] = {}
        self.nodes: dict[str, tuple[int, str]] = {}
        self.ends: dict[str, str] = {}
        self.garbage: Counter[bytes] = Counter()
        self.duplicates = 0
        for one in told:
            self._add(one)

    def _add(self, one: Told) -> None:
        if not one.event_id:
            self.garbage[one.payload] += 1
            return
        if one.event_id in self.ids:
            self.duplicates += 1
            return
        self.ids.add(one.event_id)
        if one.usage_key is not None:
            requests, prompt, completion = self.usage.get(one.usage_key, (0, 0, 0))
            self.usage[one.usage_key] = (requests + 1, prompt + one.usage[0], completion + one.usage[1])
            day, model, key, node = one.usage_key
            for place in (
                ("model", day, model, "", node),
                ("key", day, "", key, ""),
                ("key_model", day, model, key, ""),
            ):
                self.rollups[(*place, "requests")] += 1
                self.rollups[(*place, "completion_tokens")] += one.usage[1]
        if one.end is not None:
            request_id, status = one.end
            known = self.ends.get(request_id, status)
            self.ends[request_id] = min(known, status, key=WEIGHTS.index)
        if one.node is not None:
            node, moment, kind = one.node
            self.nodes[node] = max(self.nodes.get(node, (-1, "")), (moment, kind))


async def _sums(engine: AsyncEngine) -> dict[str, Any]:
    async with reading(engine) as connection:
        usage = (await connection.execute(select(USAGE_DAILY))).mappings().all()
        rollups = (await connection.execute(select(USAGE_ROLLUP))).mappings().all()
        return {
            "charges": len((await connection.execute(select(CHARGES.c.position))).all()),
            "events": {row.event_id for row in await connection.execute(select(EVENTS.c.event_id))},
            "usage": {
                (str(row["day"]), row["model"], row["key_id"], row["node"]): (
                    row["requests"],
                    row["prompt_tokens"],
                    row["completion_tokens"],
                )
                for row in usage
            },
            "rollups": {
                (row["rollup"], str(row["day"]), row["model"], row["key_id"], row["node"], name): row[name]
                for row in rollups
                for name in ("requests", "completion_tokens")
            },
            "nodes": {row.node: (row.last_ms % 1000, row.last_type) for row in await connection.execute(select(NODES))},
            "ends": {row.request_id: row.status for row in await connection.execute(select(ENDS))},
            "garbage": sorted((await connection.execute(select(QUARANTINE.c.count))).scalars()),
        }


@settings(max_examples=60)
@given(told=st.lists(messages, max_size=40), repeats=st.lists(st.integers(0, 39), max_size=20), data=st.data())
def test_sums_are_those_of_a_dictionary(empty: Path, told: list[Told], repeats: list[int], data: st.DataObject) -> None:
    told = data.draw(st.permutations(told + [told[index] for index in repeats if index < len(told)]))
    sizes = data.draw(st.lists(st.integers(1, 15), min_size=1, max_size=10))
    days = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=10))
    expected = Dictionary(told)

    async def check() -> None:
        path = empty.with_name("filled.db")
        shutil.copy(empty, path)
        engine = database.open(f"sqlite+aiosqlite:///{path}")
        try:
            duplicates = 0
            rest, turn = told, 0
            while rest:
                size = sizes[turn % len(sizes)]
                now_ms = NOON_MS + days[turn % len(days)] * DAY_MS  # by which it depends what is told late
                written = await write(engine, [read(one.payload) for one in rest[:size]], now_ms)
                duplicates += written.duplicates
                rest, turn = rest[size:], turn + 1
            await write(engine, [], NOON_MS + 3 * DAY_MS)
            sums = await _sums(engine)
            assert duplicates == expected.duplicates
            assert sums["events"] == expected.ids
            assert sums["usage"] == expected.usage
            assert sums["rollups"] == expected.rollups
            assert sums["charges"] == sum(requests for requests, _, _ in expected.usage.values())
            assert sums["nodes"] == expected.nodes
            assert sums["ends"] == expected.ends
            assert sums["garbage"] == sorted(expected.garbage.values())
            await rebuild(engine)
            assert await _sums(engine) == sums
        finally:
            await engine.dispose()
            for name in path.parent.glob("filled.db*"):
                name.unlink()

    asyncio.run(check())
