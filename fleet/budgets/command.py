"""The commands ``fleet budgets set | list | remove``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.database_command import EXIT_NOT_DONE, run_with_database
from fleet.table import table
from management.api.money import budget_shown
from store import amount, budgets
from store.budgets import PERIODS, SCOPES, Budget, BudgetId
from store.database import reading, writing

if TYPE_CHECKING:
    from typing import Any

    from click import Context, Parameter
    from sqlalchemy.ext.asyncio import AsyncEngine

SUBJECT_CHARS_MAX = 512
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("budgets", short_help="What keys, tags and models may cost.")
def commands() -> None:
    """What a key, a tag or a model may cost in a day, in a month or at all: in management's database, DATABASE_URL.

    A gateway with the same DATABASE_URL knows every change within two seconds; without a price for the model in its
    PRICES_FILE it then refuses what a budget is about. Days and months are those of management's TIME_ZONE.

    \b
    Exit codes: 0 done, 1 there is no such budget, 2 a wrong setting or option, 4 no database.
    """


def _amount(_: Context, __: Parameter, text: str) -> int:
    try:
        nanos = amount.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    if not 0 < nanos <= 10**18:
        raise click.BadParameter("a budget is more than 0, and at most a billion.")
    return nanos


def _currency(_: Context, __: Parameter, text: str) -> str:
    if not amount.is_currency(text):
        raise click.BadParameter("a currency is written like USD.")
    return text


def _subject(_: Context, __: Parameter, text: str) -> str:
    if not 0 < len(text) <= SUBJECT_CHARS_MAX or not text.isprintable():
        raise click.BadParameter(f"it has 1 to {SUBJECT_CHARS_MAX} printable characters.")
    return text


scope_argument = click.argument("scope", type=click.Choice(SCOPES))
subject_argument = click.argument("subject", callback=_subject)
period_argument = click.argument("period", type=click.Choice(PERIODS))


@commands.command("set")
@scope_argument
@subject_argument
@period_argument
@click.argument("limit", callback=_amount)
@click.option("--currency", default="USD", show_default=True, callback=_currency, help="As in the prices.")
@click.option(
    "--warn", "warn_percent", type=click.IntRange(1, 100), default=80, show_default=True, help="At so many percent."
)
def set_(scope: Any, subject: str, period: Any, limit: int, currency: str, warn_percent: int) -> None:
    """Add or change a budget: fleet budgets set key alice month 50.00

    SUBJECT is a key's name, a tag as name=value, or a model's name. What was spent in the period counts.
    """
    id_ = BudgetId(scope, subject, period)
    if scope == "tag" and "=" not in subject:
        raise click.BadParameter("write a tag as name=value.")

    async def work(engine: AsyncEngine, now: int) -> None:
        budget = Budget(id=id_, currency=currency, amount_max=limit, warn_percent=warn_percent, created_ms=now)
        async with writing(engine) as connection:
            await budgets.put(connection, budget)
        click.echo(f"The budget of {id_} is {amount.shown(limit)} {currency}.")

    sys.exit(run_with_database(work))


@commands.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """Show all budgets, and how they stand."""

    async def work(engine: AsyncEngine, now: int) -> None:
        async with reading(engine) as connection:
            found = await budgets.listed(connection)
            standing = await budgets.standings(connection, found, await budgets.today(connection, now), now)
        rows = [budget_shown(budget, standing[budget.id]) for budget in found]
        if as_json:
            click.echo(json.dumps({"data": rows}))
        else:
            click.echo(table(rows) if rows else "There are no budgets.")

    sys.exit(run_with_database(work))


@commands.command()
@scope_argument
@subject_argument
@period_argument
def remove(scope: Any, subject: str, period: Any) -> None:
    """Take a budget away."""
    id_ = BudgetId(scope, subject, period)
    removed: list[bool] = []

    async def work(engine: AsyncEngine, _: int) -> None:
        async with writing(engine) as connection:
            removed.append(await budgets.remove(connection, id_))

    code = run_with_database(work)
    if code == 0 and not removed[0]:
        click.echo(f"There is no budget of {id_}. See 'fleet budgets list'.", err=True)
        code = EXIT_NOT_DONE
    elif code == 0:
        click.echo(f"The budget of {id_} is removed.")
    sys.exit(code)
