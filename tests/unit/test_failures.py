"""What counts as the same error, and that errors by day are the same however they are told."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from management.ledger.facts import fact_of
from management.ledger.journal import read, write
from management.ledger.rebuild import rebuild
from management.remedies import remedy_of
from store import database
from store.database import reading
from store.fleet_tables import ERRORS_DAILY, ERRORS_ROLLUP, NODE_ERRORS
from store.migrate import upgrade
from tests.billing import billed, event, node_event, request_data
from wire import codec
from wire.errors import CODES_BESIDE
from wire.event import RequestData

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def failure(kind: str, **fields: Any) -> dict[str, Any] | None:
    return fact_of(event("e-1", kind, request_data(1, **fields))).failure


def failed(number: int, code: str, time: str, **fields: Any) -> bytes:
    data = request_data(number, status="failed", error_code=code, **fields)
    return event(f"failed-{number}", "request.failed", data, time=time)


@pytest.mark.parametrize(
    ("kind", "fields", "scope", "code"),
    [
        ("request.failed", {"status": "failed", "error_code": "upstream_timeout"}, "request", "upstream_timeout"),
        ("request.failed", {"status": "failed"}, "request", "unknown"),
        ("request.expired", {"status": "expired"}, "request", "deadline_exceeded"),
        ("request.dead", {"status": "dead"}, "request", "request_poisonous"),
        ("request.abandoned", {"status": "abandoned"}, "request", "abandoned"),
        ("request.cost", {"status": "handed_back", "error_code": "upstream_failed"}, "attempt", "upstream_failed"),
    ],
)
def test_what_went_wrong_has_a_scope_and_a_code(kind: str, fields: Any, scope: str, code: str) -> None:
    found = failure(kind, **fields)
    assert found is not None
    assert (found["scope"], found["code"]) == (scope, code)
    assert remedy_of(scope, code).remedy


@pytest.mark.parametrize("code", [code for code in CODES_BESIDE if code.startswith("upstream_")])
def test_every_trouble_with_a_provider_has_a_remedy_of_its_own(code: str) -> None:
    assert remedy_of("attempt", code) != remedy_of("attempt", "a code that nobody knows")


@pytest.mark.parametrize("kind", ["request.cost", "request.cancelled", "request.replayed", "request.discarded"])
def test_what_did_not_go_wrong_is_no_error(kind: str) -> None:
    assert failure(kind) is None
    assert fact_of(billed(1)).failure is None


def test_the_words_of_a_provider_are_not_kept() -> None:
    found = failure("request.failed", status="refused", error_code="bad", message="Your prompt 'secret' is bad.")
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("E_1234567", "e_7654321", True),  # a provider's own number
        ("e 1", "e_1", True),
        ("1301", "1302", False),
        ("x" * 100 + "a", "x" * 100 + "b", True),
        ("a\nb", "a b", True),
    ],
)
def test_codes_that_a_person_would_call_the_same_are_one(one: str, other: str, same: bool) -> None:
    first, second = (failure("request.failed", error_code=code) for code in (one, other))
    assert first is not None
    assert second is not None
    assert (first["fingerprint"] == second["fingerprint"]) is same
    assert first["code"].isprintable()


def test_another_provider_is_another_error_and_another_key_is_not() -> None:
    told = [{"provider": "a.example"}, {"provider": "B.example"}, {"provider": "b.example", "key_id": "key-b"}]
    found = [failure("request.failed", error_code="e", **fields) for fields in told]
    one, other, same = (each["fingerprint"] for each in found if each is not None)
    assert one != other == same


@pytest.mark.parametrize("kind", ["rate_limited", "quota_exhausted", "authentication_failed", "misconfigured"])
def test_a_nodes_own_trouble_is_told_in_its_words(kind: str) -> None:
    found = fact_of(node_event("n-1", f"node.{kind}", message="Do this.")).failure
    assert found is not None
    assert (found["scope"], found["code"], found["message"]) == ("node", kind, "Do this.")
    assert remedy_of("node", kind).irreversible is (kind != "rate_limited")


@pytest.mark.parametrize("kind", ["started", "recovered", "draining", "stopped"])
def test_a_node_that_is_well_has_no_trouble(kind: str) -> None:
    assert fact_of(node_event("n-1", f"node.{kind}")).failure is None


async def projected(engine: AsyncEngine) -> list[Any]:
    async with reading(engine) as connection:
        return [
            sorted(map(tuple, (await connection.execute(select(table))).all()), key=repr)
            for table in (ERRORS_DAILY, NODE_ERRORS, ERRORS_ROLLUP)
        ]


async def test_errors_by_day_are_the_same_however_often_and_in_whatever_order_they_are_told(database_url: str) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    told = [
        failed(
            number, f"code_{number % 3}", f"2026-03-0{1 + number % 2}T12:00:0{number % 10}Z", node=f"node-{number % 2}"
        )
        for number in range(30)
    ]
    told += [node_event(f"n-{number}", "node.unreachable", node="node-0", message=f"{number}") for number in range(3)]
    states = []
    for seed in range(3):
        random.Random(seed).shuffle(told)
        await write(engine, [read(payload) for payload in told[: 10 * seed]], 1)
        for begin in range(0, len(told), 7):
            await write(engine, [read(payload) for payload in told[begin : begin + 7]], 1)
        states.append(await projected(engine))
    await rebuild(engine)
    states.append(await projected(engine))
    await engine.dispose()
    assert states[0] == states[1] == states[2] == states[3]
    errors, nodes, shorter = states[0]
    assert Counter(row[0] for row in shorter for _ in range(row[8])) == {"model": 33, "key": 33}
    assert sum(row[7] for row in errors) == 33
    assert {row[0] for row in nodes} == {"node-0", "node-1"}


def test_an_absurd_code_is_shown_short_and_harmless() -> None:
    data = codec.decode_request_data(request_data(1, error_code="\x1b[31m<script>" + "9" * 400))
    assert isinstance(data, RequestData)
    found = failure("request.failed", error_code=data.error_code)
    assert found is not None
    assert len(found["code"]) <= 64
    assert not set(found["code"]) & set("\x1b<> ")
