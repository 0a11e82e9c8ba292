"""The commands ``fleet keys create | list | revoke | rotate``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.database_command import EXIT_NOT_DONE, run_with_database
from fleet.keys.report import as_json as in_json
from fleet.keys.report import as_line
from fleet.keys.secret import new_secret
from fleet.keys.span import Span
from fleet.terminal import TIME_MS_MAX
from gateway.endpoints.metadata import METADATA_TAGS_MAX, is_tag
from gateway.keys.api_keys import NAME_CHARS_MAX
from store import keys as table
from store.database import reading, writing
from store.keys import KeyLimits, NameTaken, NoSuchKey
from wire.errors import InvalidName
from wire.request import TAGS_MAX
from wire.topics import segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from click import Context, Parameter
    from sqlalchemy.ext.asyncio import AsyncEngine

    from store.keys import StoredKey

AMOUNT_MAX = 10**9

AMOUNT = click.IntRange(1, AMOUNT_MAX)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Keys of clients: create, list, revoke, rotate.")
def keys() -> None:
    """Keys of clients, kept in management's database: DATABASE_URL.

    A gateway that has the same DATABASE_URL knows every change within two seconds. API_KEYS count beside them.

    \b
    Exit codes: 0 done, 1 there is no such key or the name is taken, 2 a wrong setting or option, 4 no database.
    """


def _name(_: Context, __: Parameter, name: str) -> str:
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise click.BadParameter(f"a name has 1 to {NAME_CHARS_MAX} printable characters and no blanks around it.")
    return name


def _models(_: Context, __: Parameter, models: tuple[str, ...]) -> tuple[str, ...]:
    for model in models:
        try:
            segment(model)
        except InvalidName as error:
            raise click.BadParameter(error.message) from None
    return models


def _tags(_: Context, __: Parameter, given: tuple[str, ...]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not is_tag(name, value) or name in tags:
            raise click.BadParameter("write each tag once, as name=value, short and printable.")
        tags[name] = value
    if len(tags) > TAGS_MAX - METADATA_TAGS_MAX:
        raise click.BadParameter(f"a key has at most {TAGS_MAX - METADATA_TAGS_MAX} tags.")
    return tags


name_argument = click.argument("name", callback=_name)


@keys.command()
@name_argument
@click.option("--model", "models", multiple=True, callback=_models, help="A model it may use; again for more.")
@click.option("--expires", "expires_ms", type=Span(least_s=1), help="How long it is good, such as 30d.")
@click.option("--requests-per-min", type=AMOUNT, help="Requests in any minute.")
@click.option("--tokens-per-min", type=AMOUNT, help="Tokens in a minute, of prompts and answers together.")
@click.option("--concurrent", "concurrent_max", type=AMOUNT, help="Requests at once, in each gateway.")
@click.option("--tag", "tags", multiple=True, callback=_tags, help="What it is counted under, as team=search.")
@json_option
def create(
    name: str,
    models: tuple[str, ...],
    expires_ms: int | None,
    requests_per_min: int | None,
    tokens_per_min: int | None,
    concurrent_max: int | None,
    tags: dict[str, str],
    *,
    as_json: bool,
) -> None:
    """Make a key and show it, this once. The ledger knows it as NAME, which is never given again."""
    limits = KeyLimits(
        models=tuple(dict.fromkeys(models)) or None,
        requests_per_min=requests_per_min,
        tokens_per_min=tokens_per_min,
        concurrent_max=concurrent_max,
    )
    secret, stored = new_secret()

    async def work(engine: AsyncEngine, now: int) -> None:
        until = None if expires_ms is None else min(now + expires_ms, TIME_MS_MAX)
        async with writing(engine) as connection:
            key = await table.create(connection, name, stored, limits, now, until, tags)
        _show_secret(secret, key, now, as_json=as_json)

    sys.exit(_run(work))


@keys.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """Show the keys there are and were, without their secrets."""

    async def work(engine: AsyncEngine, now: int) -> None:
        async with reading(engine) as connection:
            found = await table.listed(connection)
        if as_json:
            click.echo(json.dumps({"data": [in_json(key, now) for key in found]}))
            return
        for key in found:
            click.echo(as_line(key, now))
        if not found:
            click.echo("There are no keys.")

    sys.exit(_run(work))


@keys.command()
@name_argument
@json_option
def revoke(name: str, *, as_json: bool) -> None:
    """End a key for good. Gateways refuse it within two seconds."""

    async def work(engine: AsyncEngine, now: int) -> None:
        async with writing(engine) as connection:
            ended = await table.revoke(connection, name, now)
        click.echo(json.dumps({"name": name, "revoked": ended}) if as_json else f"{name} is revoked.")

    sys.exit(_run(work))


@keys.command()
@name_argument
@click.option("--grace", "grace_ms", type=Span(), default="0s", show_default=True, help="How long the old one is good.")
@json_option
def rotate(name: str, grace_ms: int, *, as_json: bool) -> None:
    """Give a key a new secret and show it, this once. Name, limits, models and expiry stay."""
    secret, stored = new_secret()

    async def work(engine: AsyncEngine, now: int) -> None:
        async with writing(engine) as connection:
            key = await table.rotate(connection, name, stored, now, min(now + grace_ms, TIME_MS_MAX))
        _show_secret(secret, key, now, as_json=as_json)

    sys.exit(_run(work))


def _show_secret(secret: str, key: StoredKey, now: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"key": secret, **in_json(key, now)}))
        return
    # The key alone goes to standard output, so that a script can take it as it is.
    click.echo(secret)
    click.echo(as_line(key, now), err=True)
    click.echo("It is shown this once. Whoever has it can use it: keep it like a password.", err=True)


def _run(work: Callable[[AsyncEngine, int], Awaitable[None]]) -> int:
    try:
        return run_with_database(work)
    except NameTaken as taken:
        click.echo(f"There is, or was, a key named {taken}. Choose another name, or rotate that key.", err=True)
    except NoSuchKey as missing:
        click.echo(f"There is no key named {missing} that is still good. See 'fleet keys list'.", err=True)
    return EXIT_NOT_DONE
