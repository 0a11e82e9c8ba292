"""Every statement compiles for both databases, and cursors are checked."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from management.ledger.journal import count_quarantined, insert_events
from management.ledger.projections import tell_end, tell_node
from management.ledger.sums import add_up
from management.reading import queries, sum_queries
from management.reading.questions import ChargesQuestion, CostsQuestion, EndsQuestion, EventsQuestion, UsageQuestion
from store.tables import ENDS, METADATA, USAGE_DAILY
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

NEW_YEAR = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
DIALECTS = [sqlite.dialect(), POSTGRESQL]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_statement_compiles(dialect: Dialect) -> None:
    statements = [
        insert_events(dialect.name),
        count_quarantined(dialect.name),
        add_up(dialect.name, USAGE_DAILY),
        tell_end(dialect.name, ENDS),
        tell_node(dialect.name),
        queries.ends(EndsQuestion(status="failed", key_id="k", since="2026-01-01T00:00:00Z", cursor="8-7")),
        queries.end_of("req_1"),
        queries.charge_of("req_1"),
        queries.timeline("req_1"),
        queries.charges(
            ChargesQuestion(model="m", since="2026-01-01T00:00:00Z", until="2026-02-01T00:00:00Z", cursor="8-7")
        ),
        queries.events(EventsQuestion(type="request.failed", node="n", cursor="7")),
        sum_queries.usage(UsageQuestion(by=["day", "model"], cursor='["2026-01-01","m"]')),
        sum_queries.usage(UsageQuestion()),
        sum_queries.usage(UsageQuestion(by=["tag"], tag="team")),
        sum_queries.amounts(UsageQuestion(by=["day"]), [{"day": NEW_YEAR.date()}]),
        sum_queries.costs(CostsQuestion(by=["provider"], cursor='["a","cost","USD"]')),
        queries.nodes(10, None),
        queries.nodes(10, "m"),
        queries.nodes_named(["a"]),
    ]
    for statement in statements:
        assert str(statement.compile(dialect=dialect))
    for table in METADATA.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


def test_only_sqlite_is_told_by_what_to_look_up() -> None:
    statement = queries.events(EventsQuestion(type="request.failed", model="m"))
    assert "+events.model = " in str(statement.compile(dialect=sqlite.dialect()))
    assert "AND events.model = " in str(statement.compile(dialect=POSTGRESQL))


@pytest.mark.parametrize(
    ("asked", "days"),
    [
        ({"by": ["key", "node"]}, 31),
        ({"by": ["day", "model", "key", "node"]}, 31),
        ({"by": ["key", "tag"]}, 31),
        ({"by": ["key"], "tag": "team"}, 31),
        ({"by": ["key", "model", "tag"]}, 7),
        ({"by": ["key", "node"], "tag": "team"}, 7),
        ({"by": ["key", "model", "tag"], "tag": "team=x"}, None),
        ({"by": ["node", "tag"], "key_id": "key-a"}, 31),
        ({"by": ["tag"], "key_id": "key-a", "node": "node-a"}, 31),
        ({"by": ["key", "tag"], "node": "node-a"}, 31),
        ({"by": ["tag", "model"], "key_id": "key-a"}, None),
        ({"by": ["key", "node"], "key_id": "key-a"}, None),
        ({"by": ["key", "node"], "node": "node-a"}, None),
        ({"by": ["day", "model", "key"]}, None),
        ({"by": ["model", "node", "tag"]}, None),
    ],
)
def test_sums_of_very_many_rows_are_told_for_few_days(asked: dict[str, Any], days: int | None) -> None:
    if days is None:
        assert sum_queries.usage(UsageQuestion(**asked)) is not None
        return
    since = NEW_YEAR.date()
    until = since + datetime.timedelta(days=days - 1)
    assert sum_queries.usage(UsageQuestion(**asked, since=since.isoformat(), until=until.isoformat())) is not None
    later = (until + datetime.timedelta(days=1)).isoformat()
    for span in ({"since": since.isoformat(), "until": later}, {"since": since.isoformat()}, {"until": later}, {}):
        with pytest.raises(InvalidRequest, match=f"for {days} days at most"):
            sum_queries.usage(UsageQuestion(**asked, **span))
    if not {"tag"} & {*asked, *asked["by"]}:
        with pytest.raises(InvalidRequest, match=f"for {days} days at most"):
            sum_queries.costs(CostsQuestion(**asked))


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2026-01-01T02:00:00 02:00", 0),
        ("2026-01-01T02:00:00.5 02:00", 0),
        ("2026-01-01T02:00+02:00", 0),
        ("2026-01-01 02:00 0200", 0),
        ("2026-01-01T02:00:00-02:00", 4),
    ],
)
def test_a_time_in_an_address_may_have_its_plus_as_it_is(written: str, hour: int) -> None:
    found = ChargesQuestion.model_validate({"since": written}).since
    assert found is not None
    assert found.replace(microsecond=0) == NEW_YEAR.replace(hour=hour)


@pytest.mark.parametrize("written", ["2026-01-01 02:00", "2026-01-01T02:00:00", "2026-01-01 0200"])
def test_a_time_without_a_zone_is_none(written: str) -> None:
    with pytest.raises(ValidationError):
        ChargesQuestion.model_validate({"since": written})


def test_events_number_themselves_on_both_databases() -> None:
    events = METADATA.tables["events"]
    assert "position BIGSERIAL" in str(CreateTable(events).compile(dialect=POSTGRESQL))
    assert "position INTEGER" in str(CreateTable(events).compile(dialect=sqlite.dialect()))


@pytest.mark.parametrize("cursor", ["", "-1", "1", "1-2-3", "x-1", "1-" + "1" * 20, f"1-{2**63}", "٣-٣"])
def test_a_wrong_position_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        queries.charges(ChargesQuestion(cursor=cursor))


@pytest.mark.parametrize(
    "cursor", ["", "[]", '["2026-01-01"]', '["tomorrow","m"]', "[1,2]", '["2026-01-01","\\u0000"]']
)
def test_a_wrong_group_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        sum_queries.usage(UsageQuestion(by=["day", "model"], cursor=cursor))


def test_a_total_has_no_second_page() -> None:
    with pytest.raises(InvalidRequest):
        sum_queries.usage(UsageQuestion(cursor="[]"))
