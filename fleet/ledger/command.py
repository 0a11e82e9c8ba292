"""The commands ``fleet ledger rebuild | reprice | reconcile | export``."""

from __future__ import annotations

import datetime
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.database_command import EXIT_NOT_DONE, run_on, settings_or_none
from fleet.terminal import harmless
from management.ledger.journal import WrongTimeZone
from management.ledger.rebuild import Rebuilt, ZoneIsFixed
from management.ledger.rebuild import rebuild as make_anew
from management.ledger.rebuild import reprice as price_anew
from management.ledger.reconcile import Reconciled
from management.ledger.reconcile import reconcile as compare
from management.reading import export as exporting
from management.settings import ManagementSettings
from process.settings import EXIT_WRONG_SETTING
from store.database import reading
from store.ledger_state import state_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.ledger.books import Books

MINUTE_MS = 60_000
POSITION_MAX = 2**62
EPOCH_YEAR = 1970
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
DATE = click.DateTime(["%Y-%m-%d"])


@click.group(short_help="Rebuild, reprice, reconcile and export the ledger.")
def ledger() -> None:
    """Management's ledger, in its database: DATABASE_URL, with TIME_ZONE and PRICES_FILE as management has them.

    \b
    Exit codes: 0 done and all fits, 1 something does not fit, 2 a wrong setting or option, 4 no database.
    """


@ledger.command()
@json_option
def rebuild(*, as_json: bool) -> None:
    """Make all sums and lists anew from the events. A ledger that runs waits meanwhile.

    What was priced keeps its prices. A new TIME_ZONE holds from here on. Days whose events are deleted stay as they
    are.
    """

    async def work(engine: AsyncEngine, books: Books, _: int) -> None:
        async with reading(engine) as connection:
            zone = (await state_of(connection)).time_zone
        _show(await make_anew(engine, books), as_json=as_json)
        if zone not in (None, books.zone_name):
            click.echo(
                f"Its days were those of {zone}, and are those of {books.zone_name} from here on: management writes it "
                f"with TIME_ZONE={books.zone_name} only.",
                err=True,
            )

    sys.exit(_run(work))


@ledger.command()
@click.option("--since", type=DATE, help="The first day to price anew; all without it.")
@json_option
def reprice(since: datetime.datetime | None, *, as_json: bool) -> None:
    """Price charges and costs anew by PRICES_FILE as it is now. What customers were told before changes with it."""
    settings = settings_or_none(ManagementSettings)
    if settings is None:
        sys.exit(EXIT_WRONG_SETTING)
    if settings.prices_file is None:
        click.echo("PRICES_FILE: it is not set, and no amount would be left. An empty file takes all away.", err=True)
        sys.exit(EXIT_WRONG_SETTING)

    # No charge is older, and east of UTC the year 1 would begin in the year 0.
    first = since.date() if since is not None and since.year > EPOCH_YEAR else None

    async def work(engine: AsyncEngine, books: Books, _: int) -> None:
        _show(await price_anew(engine, books, first), as_json=as_json)

    sys.exit(_run(work))


@ledger.command(short_help="Find what does not fit together.")
@click.option("--days", type=click.IntRange(1, 36_500), default=7, show_default=True, help="How many days to look at.")
@click.option(
    "--open-min",
    type=click.IntRange(1, 525_600),
    default=15,
    show_default=True,
    help="Minutes that a request may be open.",
)
@json_option
def reconcile(days: int, open_min: int, *, as_json: bool) -> None:
    """Find requests without an end, ends without a request, and charges or sums that are not those of their events.

    Sums and charges are compared up to the end of yesterday.
    """
    results: list[Reconciled] = []
    settings = settings_or_none(ManagementSettings)
    if settings is None:
        sys.exit(EXIT_WRONG_SETTING)
    # Of single charges and ends that are deleted nothing can be said.
    looked_at = min(days, settings.retention_requests_days or days)

    async def work(engine: AsyncEngine, books: Books, now: int) -> None:
        since_ms = books.begins_ms(books.day(now) - datetime.timedelta(days=looked_at))
        results.append(await compare(engine, books, max(0, since_ms), now - open_min * MINUTE_MS))
        _show_findings(results[0], as_json=as_json)

    code = _run(work)
    wrong = any(finding.count for found in results for finding in found.findings.values())
    sys.exit(EXIT_NOT_DONE if code == 0 and wrong else code)


@ledger.command(short_help="Write charges or events as lines.")
@click.argument("what", type=click.Choice(["charges", "events"]), default="charges")
@click.option("--csv", "as_csv", is_flag=True, help="Charges as CSV instead of JSON lines.")
@click.option(
    "--after",
    type=click.IntRange(0, POSITION_MAX),
    default=0,
    show_default=True,
    help="The last position that is known.",
)
@click.option("--limit", type=click.IntRange(1, POSITION_MAX), default=POSITION_MAX, help="Lines at most.")
def export(what: str, after: int, limit: int, *, as_csv: bool) -> None:
    """Write charges or events to standard output in the order of their positions; go on with --after the last one."""
    if as_csv and what == "events":
        raise click.BadParameter("events are JSON.")

    async def work(engine: AsyncEngine, _: Books, __: int) -> None:
        if what == "events":
            lines = exporting.events(engine, after, limit)
        else:
            lines = exporting.charges(engine, after, limit, as_csv=as_csv)
        async for part in lines:
            click.echo(part, nl=False)

    sys.exit(_run(work))


def _show(rebuilt: Rebuilt, *, as_json: bool) -> None:
    if as_json:
        shown = {"events": rebuilt.events, "charges": rebuilt.charges, "unreadable": rebuilt.unreadable}
        click.echo(json.dumps(shown))
    else:
        click.echo(f"{rebuilt.events} events were read, {rebuilt.charges} of them charges.")
        if rebuilt.unreadable:
            click.echo(f"{rebuilt.unreadable} could not be read by this version, and are in no sum.", err=True)


def _show_findings(found: Reconciled, *, as_json: bool) -> None:
    if as_json:
        told = {name.replace(" ", "_"): vars(finding) for name, finding in found.findings.items()}
        click.echo(json.dumps({"requests": found.requests, "charges": found.charges, **told}))
        return
    click.echo(f"{found.requests} requests and {found.charges} charges were looked at.")
    for name, finding in found.findings.items():
        click.echo(f"{finding.count:>8}  {name}")
        for example in finding.examples:
            click.echo(f"          {harmless(example)}")


def _run(work: Callable[[AsyncEngine, Books, int], Awaitable[None]]) -> int:
    settings = settings_or_none(ManagementSettings)
    if settings is None:
        return EXIT_WRONG_SETTING
    books = settings.books
    try:
        return run_on(settings.database_url, lambda engine, now: work(engine, books, now))
    except (WrongTimeZone, ZoneIsFixed) as wrong:
        click.echo(f"TIME_ZONE: {wrong}", err=True)
        return EXIT_WRONG_SETTING
