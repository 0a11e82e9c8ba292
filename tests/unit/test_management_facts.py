"""Reading messages of the results topic: what is a fact, and why something is none."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from management.ledger.facts import Unreadable, fact_of, message_of, same_content
from store.tables import CHARGES, ENDS, EVENTS, NODES
from tests.billing import NOON_MS, billed, event, node_event, request_data, request_id_of
from wire.event import EVENT_BYTES_MAX, Durations, charge_id
from wire.number import INTEGER_MAX
from wire.usage import REQUEST_TOKENS_MAX, Usage


def _changed(payload: bytes, old: str, new: str) -> bytes:
    assert old.encode() in payload
    return payload.replace(old.encode(), new.encode())


def test_a_charge_has_every_column_but_its_position() -> None:
    fact = fact_of(billed(1, usage=Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2, estimated=True)))
    assert fact.charge is not None
    assert {"position", *fact.charge} == set(CHARGES.c.keys())
    assert {"position", "stored_ms", *fact.event} == set(EVENTS.c.keys())
    assert fact.charge["prompt_tokens"] == 7
    assert fact.charge["estimated"] is True
    assert fact.charge["time_ms"] == NOON_MS
    assert fact.kind == "request.billed"


def test_durations_are_taken_as_told_or_worked_out_from_the_times() -> None:
    worked_out = fact_of(billed(1)).charge
    told = fact_of(billed(1, durations=Durations(total_ms=42))).charge
    assert worked_out is not None
    assert told is not None
    assert (worked_out["total_ms"], worked_out["publish_ms"]) == (300, 2)
    assert (told["total_ms"], told["publish_ms"]) == (42, None)


def test_a_node_event_tells_of_a_node_and_charges_nothing() -> None:
    fact = fact_of(node_event("n1", "node.rate_limited", message="Too many requests.", until_ms=9))
    assert fact.charge is None
    assert fact.node is not None
    assert set(fact.node) == set(NODES.c.keys())
    assert fact.node["last_type"] == "node.rate_limited"


def test_other_request_events_are_facts_without_a_charge() -> None:
    fact = fact_of(event("cost-att_1", "request.cost", request_data(1, status="superseded")))
    assert fact.charge is None
    assert fact.event["request_id"] == request_id_of(1)


@pytest.mark.parametrize(
    ("kind", "status", "end"),
    [
        ("request.failed", "refused", "failed"),
        ("request.cancelled", "cancelled", "cancelled"),
        ("request.expired", "expired", "expired"),
        ("request.dead", "dead", "dead"),
        ("request.abandoned", "abandoned", "abandoned"),
        ("request.cost", "superseded", None),
        ("request.replayed", "answered", None),
        ("request.discarded", "dead", None),
    ],
)
def test_which_events_tell_of_an_end(kind: str, status: str, end: str | None) -> None:
    fact = fact_of(event("e1", kind, request_data(1, status=status)))
    assert (fact.end["status"] if fact.end else None) == end
    assert fact.charge is None


@pytest.mark.parametrize(("status", "end"), [("answered", "answered"), ("cancelled", "cancelled")])
def test_a_charge_tells_of_an_end(status: str, end: str) -> None:
    fact = fact_of(billed(1, status=status))
    assert fact.end is not None
    assert fact.end["status"] == end
    assert {"position", *fact.end} == set(ENDS.c.keys())


def test_a_message_put_aside_by_a_node_is_not_what_is_told_of_the_node() -> None:
    fact = fact_of(node_event("q1", "node.quarantined", message="Unreadable."))
    assert fact.node is None
    assert fact.event["node"] == "node-a"


def test_refusals_of_a_gateway_are_a_fact_and_checked() -> None:
    data = {"gateway": "gateway-a", "version": "1", "since_ms": 0, "until_ms": 60_000, "refused": {"401": 3}}
    assert fact_of(event("r1", "gateway.refusals", msgspec.Raw(msgspec.json.encode(data)))).kind == "gateway.refusals"
    with pytest.raises(Unreadable) as unreadable:
        fact_of(event("r1", "gateway.refusals", msgspec.Raw(msgspec.json.encode(data | {"refused": {"401": -1}}))))
    assert unreadable.value.reason == "wrong_data"


@pytest.mark.parametrize("type_", ["request.praised", "node.painted"])
def test_an_unknown_type_is_stored_as_it_is(type_: str) -> None:
    fact = fact_of(event("e1", type_, msgspec.Raw(b'{"anything":[1]}')))
    assert (fact.kind, fact.charge, fact.node) == ("other", None, None)


NEGATIVE = _changed(billed(1), '"prompt_tokens":10', '"prompt_tokens":-10')
HUGE = _changed(billed(1), '"prompt_tokens":10', f'"prompt_tokens":{2**63}')


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_an_event"),
        (b"\xff\xfe\x00", "not_an_event"),
        (pickle.dumps({"id": "x"}), "not_an_event"),
        (b'{"id":1}', "not_an_event"),
        (b"[" * 30_000, "not_an_event"),
        (event("e1", "request.praised", msgspec.Raw(b"[" * 300 + b"]" * 300)), "not_an_event"),
        (b"x" * (EVENT_BYTES_MAX + 1), "too_large"),
        (NEGATIVE, "wrong_data"),
        (HUGE, "wrong_data"),
        (billed(1, attempt=-1), "number_out_of_range"),
        (billed(1, answer_bytes=INTEGER_MAX + 1), "number_out_of_range"),
        (billed(1, max_tokens=2**80), "number_out_of_range"),
        (billed(1, body_bytes=INTEGER_MAX + 1), "number_out_of_range"),
        (billed(1, n=INTEGER_MAX + 1), "number_out_of_range"),
        (billed(1, images=INTEGER_MAX + 1), "number_out_of_range"),
        *(
            (billed(1, usage=msgspec.structs.replace(Usage(), **{name: REQUEST_TOKENS_MAX + 1})), "number_out_of_range")
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        ),
        # What is to be read again, to reconcile or as a prompt, must be readable.
        (event("e1", "gateway.accepted", msgspec.Raw(b'{"requests":[]}')), "wrong_data"),
        (event("e1", "request.prompt", msgspec.Raw(b'{"request_id":"req_1"}')), "wrong_data"),
        (billed(1, time="yesterday"), "wrong_time"),
        (billed(1, time="2026-03-01T12:00:00"), "wrong_time"),
        (billed(1, time="1969-12-31T23:59:59Z"), "wrong_time"),
        (billed(1, time="2100-01-01T00:00:00Z"), "wrong_time"),
        (billed(1, time="0001-01-01T00:00:00+23:59"), "wrong_time"),
        (billed(1, model="a\0b"), "nul"),
        (event("e\0", "request.praised", msgspec.Raw(b"{}")), "nul"),
        # A charge whose id is not that of its request could be told twice under two ids …
        (event("charge-other", "request.billed", request_data(1)), "wrong_id"),
        # … and another event under a charge's id would keep the charge out.
        (event(charge_id(request_id_of(1)), "request.failed", request_data(1)), "wrong_id"),
        (event(charge_id(request_id_of(1)), "request.praised", msgspec.Raw(b"{}")), "wrong_id"),
        # What nobody reads is stored all the same, and must be text.
        (_changed(billed(1), '"data"', '"extra":"?","data"').replace(b"?", b"\xff"), "not_an_event"),
    ],
)
def test_what_is_no_fact_is_unreadable_for_a_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        fact_of(payload)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "payload",
    [
        billed(1, time="1970-01-01T00:00:00Z"),
        billed(1, time="2099-12-31T23:59:59.999Z"),
        billed(1, body_bytes=INTEGER_MAX, n=0, usage=Usage(prompt_tokens=REQUEST_TOKENS_MAX)),
        billed(1) + b" " * (EVENT_BYTES_MAX - len(billed(1))),
    ],
)
def test_what_is_just_within_its_bounds_is_a_fact(payload: bytes) -> None:
    assert fact_of(payload).charge is not None


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert fact_of(billed(1, model="\\u0000")).event["model"] == "\\u0000"


def test_content_is_compared_whatever_its_whitespace_and_time() -> None:
    one, later = billed(1).decode(), billed(1, time="2026-03-02T00:00:00Z").decode()
    other = billed(1, usage=Usage(prompt_tokens=11)).decode()
    assert same_content(one, later)
    assert same_content(one, one.replace('":', '": '))
    assert not same_content(one, other)


@pytest.mark.parametrize("number", ["1e999", "9" * 5_000])
def test_a_number_that_no_reader_takes_spoils_neither_comparison_nor_words(number: str) -> None:
    told = event("dead-1", "request.dead", request_data(1, status="dead", message="Three nodes died."))
    odd = _changed(told, '"data":{', f'"data":{{"ratio":{number},').decode()
    assert fact_of(odd.encode()).end is not None
    assert same_content(odd, odd.replace('"source":"node-a"', '"source":"node-b"'))
    assert not same_content(odd, told.decode())
    assert message_of(odd) == "Three nodes died."
    assert message_of(None) is None
    assert message_of(node_event("n1", "node.stopped").decode()) is None
