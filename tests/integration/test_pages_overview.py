"""The first page tells what waits for a person, and nothing else."""

from __future__ import annotations

import datetime
import html
import re
from typing import TYPE_CHECKING, Any

import pytest

import management.fleet.actions
from broker.interface import BrokerForbidden
from broker.memory import MemoryBroker
from management.pages import nodes, usage
from management.pages.errors import NOW_MAX
from management.pages.overview import TROUBLES_MAX
from process.identity import now_ms
from store import database
from store.budgets import Budget, BudgetId, put
from store.database import writing
from tests.billing import billed, event, node_event, request_data
from tests.counting_house import CountingHouse
from tests.waiting import until
from wire import codec
from wire.event import RequestData
from wire.number import INTEGER_MAX
from wire.presence import RUNNING_TOLD_MAX, Presence, RunningRequest
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wire.event import RequestEventType

DAY_MS = 86_400_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    made = CountingHouse(tmp_path)
    await made.start()
    yield made
    await made.end()


async def tell(house: CountingHouse, kind: RequestEventType, number: int, time_ms: int) -> None:
    """An event about a dead letter."""
    id_ = f"req_dead{number}"
    data = RequestData(request_id=id_, endpoint="chat/completions", model="m", status="dead", message="x")
    await house.publish(codec.encode_told(kind, f"{kind}-{id_}", "/node-a", id_, data, time_ms))
    await house.settled()


async def beat(house: CountingHouse, **fields: Any) -> None:
    """A node's heartbeat."""
    usual: dict[str, Any] = {"model": "m", "version": "1", "slots": 1, "sent_ms": now_ms(), "started_ms": now_ms()}
    presence = Presence(**(usual | fields))
    broker = MemoryBroker(house.server)
    producer = await broker.producer(house.topics.presence)
    await producer.send(codec.encode(presence))
    await broker.aclose()


async def start_with(house: CountingHouse, tmp_path: Path, prices: str) -> None:
    """Anew, with these prices."""
    await house.end()
    path = tmp_path / "prices.toml"
    path.write_text(prices)
    await house.start(PRICES_FILE=str(path))


async def text_of(house: CountingHouse, path: str) -> str:
    status, page = await house.get(path)
    assert status == 200, path
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_dead_letters_wait_until_they_are_discarded_however_old_they_are(house: CountingHouse) -> None:
    await tell(house, "request.dead", 1, now_ms())
    assert "1 request took three nodes along, and waits for you." in await text_of(house, "/")
    await tell(house, "request.discarded", 1, now_ms())
    assert "All well" in await text_of(house, "/")
    for number in (2, 3):
        await tell(house, "request.dead", number, now_ms() - 2 * DAY_MS)
    assert "2 requests took three nodes along, and wait for you." in await text_of(house, "/")


async def test_a_letter_that_the_broker_has_lost_can_be_let_go(house: CountingHouse) -> None:
    await tell(house, "request.dead", 1, now_ms())
    status, done = await house.act(action="discard", request_id="req_dead1")
    assert (status, done["state"]) == (200, "done"), done
    await house.settled()
    assert "All well" in await text_of(house, "/")
    assert (await house.get("/api/v1/dead-letters"))[1]["data"] == []
    # An end that is no dead letter is nothing to be discarded.
    await tell(house, "request.failed", 2, now_ms())
    assert (await house.act(action="discard", request_id="req_dead2"))[0] == 404


async def test_nothing_is_to_be_decided_about_a_letter_that_was_let_go(house: CountingHouse) -> None:
    await tell(house, "request.dead", 1, now_ms())
    assert "Discard for good" in await text_of(house, "/requests/req_dead1")
    await tell(house, "request.discarded", 1, now_ms())
    page = await text_of(house, "/requests/req_dead1")
    assert "Dead letter Discarded" in page
    assert "Discard for good" not in page


@pytest.mark.parametrize("path", ["/dead-letters?model=m", "/actions?action=drain", "/requests?model=m"])
async def test_the_first_page_of_a_list_has_the_filters_of_the_others(house: CountingHouse, path: str) -> None:
    await tell(house, "request.dead", 1, now_ms())
    await house.act(action="drain", scope="model", subject="m")
    cursor = "9" if "actions" in path else f"{now_ms() + DAY_MS}-9"
    _, page = await house.get(f"{path}&cursor={cursor}")
    assert f'href="{path}">First page' in page


async def test_a_node_that_works_on_more_than_it_names_is_at_work_on_all_of_them(house: CountingHouse) -> None:
    running = tuple(
        RunningRequest(request_id=f"req_{number:08}", taken_ms=now_ms()) for number in range(RUNNING_TOLD_MAX)
    )
    await beat(house, node="n_12345678", name="n", type="local", state="ready", slots=64, busy=64, running=running)

    async def shown() -> bool:
        return "64 at work" in (page := await text_of(house, "/nodes")) and "and 59 more" in page

    await until(shown)


async def test_what_the_broker_does_not_permit_is_told_as_that(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting would help nobody."""
    await tell(house, "request.dead", 1, now_ms())

    async def forbidden(*_: object) -> None:
        raise BrokerForbidden("The token gives no permission.")

    monkeypatch.setattr(management.fleet.actions, "discard_letter", forbidden)
    status, done = await house.act(action="discard", request_id="req_dead1")
    assert (status, done["error"]["code"]) == (409, "not_permitted")


async def test_engines_that_died_are_among_what_nodes_told(house: CountingHouse) -> None:
    await house.publish(node_event("e1", "node.engine_died", message="It ended by signal 9."))
    await house.settled()
    page = await text_of(house, "/errors?of=nodes")
    assert "Engine died" in page
    assert "signal 9" in page


async def test_the_last_of_many_budgets_is_looked_at_too(house: CountingHouse, tmp_path: Path) -> None:
    await start_with(house, tmp_path, '[[price]]\nmodel = "small"\ncurrency = "EUR"\ninput = 1\noutput = 1\n')
    engine = database.open(house.url)
    async with writing(engine) as connection:
        for number in range(120):
            id_ = BudgetId("key", f"key-{number:03}", "total")
            await put(connection, Budget(id=id_, currency="EUR", amount_max=1, warn_percent=80, created_ms=now_ms()))
    await engine.dispose()
    await house.publish(billed(1, key_id="key-119", usage=Usage(prompt_tokens=100, completion_tokens=1)))
    await house.settled()
    assert "key-119 The budget in all is spent" in await text_of(house, "/")


async def test_of_many_spent_budgets_the_first_are_named_and_the_others_counted(
    house: CountingHouse, tmp_path: Path
) -> None:
    engine = database.open(house.url)
    async with writing(engine) as connection:
        for number in range(112):  # of nothing: all are spent
            id_ = BudgetId(("key", "tag")[number % 2], f"a~b={number:03}&c", "total")
            await put(connection, Budget(id=id_, currency="EUR", amount_max=0, warn_percent=80, created_ms=now_ms()))
    await engine.dispose()
    page = await text_of(house, "/")
    assert page.count("The budget in all is spent") == TROUBLES_MAX
    assert f"and {112 - TROUBLES_MAX} more: see" in page
    found: list[str] = []
    path: str | None = "/keys"
    while path is not None:
        _, page = await house.get(path)
        found += re.findall(r'class="note">(?:key|tag)</small> (\S+)</td>', html.unescape(page))
        link = re.search(r'href="([^"]+)">More budgets →', page)
        path = html.unescape(link[1]) if link else None
    assert found == [f"a~b={number:03}&c" for start in (0, 1) for number in range(start, 112, 2)]
    for wrong in ("50", "key~year~a", "god~day~a", ""):
        assert (await house.get(f"/keys?budgets={wrong}"))[0] == (400 if wrong else 200), wrong


async def test_prices_that_are_over_are_not_shown_and_those_to_come_are_told_as_such(
    house: CountingHouse, tmp_path: Path
) -> None:
    await house.end()
    prices = tmp_path / "prices.toml"
    usual = 'model = "small"\ncurrency = "EUR"\noutput = 0\n'
    of_time = (("2000-01-01", 1), ("2001-01-01", 2), ("2998-01-01", 3), ("2999-01-01", 4))
    prices.write_text(
        f"[[price]]\n{usual}input = 5\n[[price]]\n{usual}provider = 'p'\ninput = 6\n"
        + "".join(f"[[cost]]\n{usual}valid_from = {day}T00:00:00Z\ninput = {price}\n" for day, price in of_time)
    )
    await house.start(PRICES_FILE=str(prices))
    page = (await text_of(house, "/keys")).partition("Currency")[2]
    shown = re.findall(r"small (from 1 Jan \d+ on )?(the customer|you) (any|p) (\S+)", page)
    assert shown == [
        ("", "the customer", "any", "5.00"),
        ("", "the customer", "p", "6.00"),
        ("", "you", "any", "2.00"),
        ("from 1 Jan 2998 on ", "you", "any", "3.00"),
        ("from 1 Jan 2999 on ", "you", "any", "4.00"),
    ], page
    assert len((await house.get("/api/v1/prices"))[1]["costs"]) == 4


async def test_every_model_that_is_there_shows_what_was_used_today(house: CountingHouse) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    await house.publish(*(billed(number, time=now, model=f"m{number % 210}") for number in range(420)))
    await house.publish(billed(1000, time=now, model="zz"))
    await house.settled()
    await beat(house, node="node-zz_12345678", name="node-zz", model="zz", type="static", state="ready")

    async def shown() -> bool:
        return "zz" in await text_of(house, "/models")

    await until(shown)
    row = (await house.get("/models"))[1].partition(">zz<")[2].partition("</tr>")[0]
    assert re.search(r'data-label="Today"[^>]*>\s*(<[^>]+>\s*)*1\b', row), row


async def test_a_node_that_tells_of_a_time_beyond_all_days_hides_no_page(house: CountingHouse) -> None:
    late = dict.fromkeys(("started_ms", "since_ms", "until_ms"), INTEGER_MAX)
    sentence = "It is so."
    await beat(house, node="n_12345678", name="third", type="remote", state="unreachable", sentence=sentence, **late)

    async def known() -> bool:
        return "third" in await text_of(house, "/nodes")

    await until(known)
    for path in ("/", "/models", "/errors"):
        await text_of(house, path)


async def test_one_of_something_is_told_as_one(house: CountingHouse, tmp_path: Path) -> None:
    await start_with(house, tmp_path, '[[price]]\nmodel = "paid"\ncurrency = "EUR"\ninput = 1\noutput = 1\n')
    now = datetime.datetime.now(datetime.UTC).isoformat()
    one = Usage(prompt_tokens=1)
    await house.publish(billed(1, model="paid", usage=one, time=now), billed(2, model="free", usage=one, time=now))
    await house.settled()
    assert "1 request has no price and is in no amount" in await text_of(house, "/usage")
    assert (await text_of(house, "/models")).count("1 request 1 token") == 2


async def test_what_helps_itself_hides_nothing_that_waits_for_a_person(house: CountingHouse) -> None:
    await tell(house, "request.dead", 1, now_ms())
    many = NOW_MAX + 5
    for number in range(many):
        name = f"limited-{number:02}"
        await beat(house, node=f"{name}_12345678", name=name, type="remote", state="rate_limited")

    async def heard() -> bool:
        return f"and {many + 1 - TROUBLES_MAX} more" in await text_of(house, "/")

    await until(heard)
    assert "1 request took three nodes along, and waits for you." in await text_of(house, "/")
    page = await text_of(house, "/errors")
    assert page.count("Rate limited limited-") == NOW_MAX
    assert "and 5 more: among the nodes , those in trouble stand first." in page


async def test_the_currency_that_most_is_charged_in_comes_first_and_none_is_left_out_in_silence(
    house: CountingHouse, tmp_path: Path
) -> None:
    currencies = ("AUD", "CHF", "EUR", "GBP", "USD")
    price = '[[price]]\nmodel = "m-{0}"\ncurrency = "{0}"\ninput = {1}\noutput = 0\n'
    await start_with(house, tmp_path, "".join(price.format(name, number) for number, name in enumerate(currencies, 1)))
    now = datetime.datetime.now(datetime.UTC).isoformat()
    used = Usage(prompt_tokens=1_000_000)
    await house.publish(
        *(billed(number, model=f"m-{name}", usage=used, time=now) for number, name in enumerate(currencies))
    )
    await house.settled()
    page = await text_of(house, "/")
    assert "Charged today 5.00 USD 4.00 GBP 3.00 EUR and 2 more" in page
    assert "Charged a day, USD" in page


async def test_a_budget_that_is_not_wholly_spent_is_at_99_percent(house: CountingHouse, tmp_path: Path) -> None:
    await start_with(house, tmp_path, '[[price]]\nmodel = "small"\ncurrency = "EUR"\ninput = 1\noutput = 1\n')
    engine = database.open(house.url)
    async with writing(engine) as connection:
        id_ = BudgetId("key", "key-a", "total")
        await put(connection, Budget(id=id_, currency="EUR", amount_max=10**6, warn_percent=80, created_ms=now_ms()))
    await engine.dispose()
    await house.publish(billed(1, usage=Usage(prompt_tokens=999)))
    await house.settled()
    page = await text_of(house, "/keys")
    assert "key key-a in all Nearly spent" in page
    assert " 99% " in page


async def test_every_node_is_on_one_page(house: CountingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PRESENT_MAX", 3)
    names = [f"n{number}" for number in range(8)]
    for name in names:
        state = "unreachable" if name == "n7" else "ready"
        await beat(house, node=f"{name}_12345678", name=name, type="remote", state=state)

    async def heard() -> bool:
        return "of 8 nodes" in await text_of(house, "/nodes")

    await until(heard)
    found: list[str] = []
    path: str | None = "/nodes?model=m"
    while path is not None:
        _, page = await house.get(path)
        found += re.findall(r'<h2 class="name">(n\d)</h2>', page)
        assert ('hx-get="/nodes' in page) is ("cursor" not in path)
        # What is done here leads back to here.
        assert f'name="back" value="{html.escape(path)}"' in page
        link = re.search(r'href="([^"]+)">More →', page)
        path = html.unescape(link[1]) if link else None
    assert found == ["n7", *names[:7]]
    assert "7 to 8 of 8 nodes" in await text_of(house, "/nodes?model=m&cursor=6")
    # Of a page that is no more, the first.
    assert "1 to 3 of 8 nodes" in await text_of(house, "/nodes?cursor=9")
    assert (await house.get("/nodes?cursor=x"))[0] == 400


async def test_whom_an_error_met_is_not_left_out_in_silence(house: CountingHouse) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for number in range(7):
        told = request_data(number, model=f"m{number}", key_id=f"k{number % 6}", status="failed", error_code="odd")
        await house.publish(event(f"e-{number}", "request.failed", told, time=now))
    await house.settled()
    page = await text_of(house, "/errors")
    assert "m5 1 and more models k0 2 k1 1" in page
    assert "and more keys" not in page


PRICES_AND_COSTS = """
[[price]]
model = "paid"
currency = "EUR"
input = 1
output = 2
[[price]]
model = "dear"
currency = "USD"
input = 10
output = 10
[[cost]]
model = "paid"
currency = "EUR"
input = 0.5
output = 0.5
"""


async def test_usage_tells_who_pays_what_and_the_spreadsheet_the_same(house: CountingHouse, tmp_path: Path) -> None:
    await start_with(house, tmp_path, PRICES_AND_COSTS)
    now, million = datetime.datetime.now(datetime.UTC).isoformat(), Usage(prompt_tokens=10**6, completion_tokens=10**6)
    await house.publish(billed(1, model="paid", key_id="=cmd()", usage=million, attempt_id="att_2", time=now))
    await house.settled()
    page = await text_of(house, "/usage")
    assert "Customers pay 3.00 EUR every charge has a price" in page
    assert "It costs you 1.00 EUR no attempt was in vain" in page
    assert "costs have no tags" in await text_of(house, "/usage?tag=team")
    for number, model in ((1, "paid"), (2, "dear"), (3, "dear")):
        lost = request_data(number, model=model, status="superseded", attempt_id=f"att_{number}0", usage=million)
        await house.publish(event(f"cost-att_{number}0", "request.cost", lost, time=now))
        await house.publish(billed(number, model=model, key_id="key-b", usage=million, time=now))
    await house.publish(billed(4, model="free", key_id="key-b", usage=Usage(prompt_tokens=7), time=now))
    await house.settled()
    page = await text_of(house, "/usage")
    assert "Customers pay 40.00 USD 3.00 EUR " in page
    assert "1 request has no price and is in no amount" in page
    assert "It costs you 1.00 EUR 1.00 EUR more on attempts that nobody pays" in page
    _, csv = await house.get("/usage.csv?by=key")
    assert csv.splitlines() == [
        "\ufeffkey,requests,prompt_tokens,completion_tokens,cached_tokens,reasoning_tokens,EUR,USD,unpriced_requests",
        "key-b,3,2000007,2000000,0,0,,40.00,1",
        "'=cmd(),1,1000000,1000000,0,0,3.00,,0",
    ]


async def test_a_spreadsheet_that_is_cut_says_so(house: CountingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "CSV_ROWS_MAX", 2)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for number, lines in ((2, 3), (3, 4)):
        await house.publish(billed(number, key_id=f"key-{number}", time=now), billed(1, key_id="key-1", time=now))
        await house.settled()
        _, csv = await house.get("/usage.csv?by=key")
        assert len(csv.splitlines()) == lines
        assert ("There are more: these are the first 2." in csv) is (lines == 4)


async def test_a_request_with_two_tags_is_one_request(house: CountingHouse) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    await house.publish(billed(1, tags={"team": "a", "app": "b"}, time=now))
    await house.settled()
    page = await text_of(house, "/usage?by=tag")
    assert "Requests 1 20" in page
    assert "Tokens 15 10 in, 5 out" in page
    assert [tag in page for tag in ("app=b 1 10 0 5", "team=a 1 10 0 5")] == [True, True]


async def test_sums_are_in_the_order_that_is_asked_for(house: CountingHouse) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for number, (model, tokens) in enumerate((("often", 1), ("often", 1), ("much", 1000), ("never", 0))):
        await house.publish(billed(number, model=model, usage=Usage(prompt_tokens=tokens), time=now))
    await house.settled()
    for measure, names in (("tokens", ["much", "often", "never"]), ("requests", ["often", "never", "much"])):
        _, page = await house.get(f"/usage?measure={measure}")
        shown = re.findall(r'by=key">(\w+)</a>', page)
        assert shown == names, measure
        assert f"{measure.capitalize()} a day" in page
    # Days are no series of a chart by day.
    _, page = await house.get("/usage?by=day")
    assert re.findall(r'<span class="name">(\w+)</span> <b>', page) == ["tokens"]
