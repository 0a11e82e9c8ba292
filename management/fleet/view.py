"""The fleet as it is now: nodes and models, from what was heard, what the ledger knows, and what operators want."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from management.fleet.overseer import order_of
from management.reading import fleet_queries, queries
from management.remedies import remedy_of
from store.database import reading
from store.orders import standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from management.fleet.backlogs import Backlogs
    from management.fleet.nodes import NodeRegistry
    from store.orders import Order
    from wire.presence import Presence

_PRESENT_FIELDS = (
    "name",
    "model",
    "type",
    "version",
    "provider",
    "host",
    "state",
    "since_ms",
    "sentence",
    "until_ms",
    "started_ms",
    "slots",
    "busy",
    "parked",
    "service_ms",
    "endpoints",
    "modalities",
    "context_length",
)
_READY = "ready"

Row = dict[str, Any]


class FleetView:
    """Answers as the REST API gives them. Every method raises the database's errors."""

    def __init__(self, engine: AsyncEngine, registry: NodeRegistry, backlogs: Backlogs) -> None:
        self._engine = engine
        self._registry = registry
        self._backlogs = backlogs

    async def nodes(self, gone: int, model: str | None = None) -> list[Row]:
        """All nodes that are there, of this model or any, then the latest ``gone`` of those that are not."""
        present = [each for each in self._registry.present() if model in (None, each[0].model)]
        ids = sorted(presence.node for presence, _ in present)
        async with reading(self._engine) as connection:
            told = {row["node"]: row for row in await _rows(connection, queries.nodes_named(ids))} if ids else {}
            lately = await _rows(connection, queries.nodes(gone + len(ids), model)) if gone else []
            away = [row for row in lately if row["node"] not in set(ids)][:gone]
            names = [*ids, *(row["node"] for row in away)]
            errors = {row["node"]: row for row in await _rows(connection, fleet_queries.node_errors(names))}
            orders = await standing(connection)
        here = [_present(presence, age_s, told.get(presence.node), orders) for presence, age_s in present]
        nodes = [*here, *(_gone(row) for row in away)]
        for node in nodes:
            node["last_error"] = _last_error(errors[node["node"]]) if node["node"] in errors else None
        return nodes

    async def models(self, now_ms: int) -> list[Row]:
        """Every model that has nodes, requests, dead letters or orders, by name."""
        by_model: dict[str, list[Presence]] = {}
        for presence, _ in self._registry.present():
            by_model.setdefault(presence.model, []).append(presence)
        async with reading(self._engine) as connection:
            orders = await standing(connection)
            letters = {row["model"]: row["count"] for row in await _rows(connection, fleet_queries.letters_by_model())}
            ordered = {subject for (scope, subject), order in orders.items() if scope == "model" and _holds(order)}
            names = sorted({*by_model, *self._backlogs.models, *letters, *ordered})
            return [
                {
                    **_of_nodes(name, by_model.get(name, [])),
                    **vars(self._backlogs.of(name)),
                    **_times(await _rows(connection, fleet_queries.latest_charges(name, now_ms))),
                    "dead_letters": letters.get(name, 0),
                    "order": order_shown(orders.get(("model", name))),
                }
                for name in names
            ]


def order_shown(order: Order | None) -> Row | None:
    """An order that holds; one to work is as good as none."""
    return vars(order) if order is not None and _holds(order) else None


def quantile(ordered: Sequence[int], share: float) -> int:
    """The least value that so great a share of them does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


async def _rows(connection: AsyncConnection, statement: Any) -> list[Row]:
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


def _holds(order: Order) -> bool:
    return order.order != "resume"


def _present(presence: Presence, age_s: float, told: Row | None, orders: Mapping[tuple[str, str], Order]) -> Row:
    return {
        "node": presence.node,
        "present": True,
        "heard_ms_ago": round(age_s * 1000),
        "running": [{"request_id": each.request_id, "taken_ms": each.taken_ms} for each in presence.running],
        "last_event": _last_event(told) if told else None,
        "order": order_shown(order_of(presence.node, presence.model, orders)),
        **{name: getattr(presence, name) for name in _PRESENT_FIELDS},
    }


def _gone(told: Row) -> Row:
    names = ("node", "name", "model", "version", "provider", "host")
    node = {name: told[name] for name in names}
    return {"present": False, "type": told["node_type"], "last_event": _last_event(told), **node}


def _last_event(told: Row) -> Row:
    names = ("message", "error_code", "until_ms")
    return {"type": told["last_type"], "time_ms": told["last_ms"], **{name: told[name] for name in names}}


def _last_error(row: Row) -> Row:
    remedy = remedy_of(row["scope"], row["code"])
    names = ("time_ms", "code", "request_id", "message")
    return {**{name: row[name] for name in names}, "sentence": remedy.sentence, "remedy": remedy.remedy}


def _of_nodes(model: str, nodes: Sequence[Presence]) -> Row:
    ready = [node for node in nodes if node.state == _READY]
    told = (node.sentence for node in nodes if node.sentence)
    return {
        "model": model,
        "nodes": len(nodes),
        "ready": len(ready),
        "states": dict(sorted(Counter(node.state for node in nodes).items())),
        # One that takes nothing more may still work.
        "slots": sum(node.slots if node.state == _READY else node.busy for node in nodes),
        "busy": sum(node.busy for node in nodes),
        "sentence": None if ready else next(told, None),
    }


def _times(charges: Iterable[Row]) -> Row:
    rows = list(charges)
    parts = ("publish_ms", "queue_ms", "first_token_ms")
    # Each part is by one clock: their sum knows of no difference between the clocks of gateway and node.
    first = sorted(sum(row[part] or 0 for part in parts) for row in rows if row["first_token_ms"] is not None)
    total = sorted(row["total_ms"] for row in rows if row["total_ms"] is not None)
    return {"first_token": _quantiles(first), "total": _quantiles(total), "samples": len(rows)}


def _quantiles(ordered: Sequence[int]) -> Row | None:
    return {"p50_ms": quantile(ordered, 0.5), "p95_ms": quantile(ordered, 0.95)} if ordered else None
