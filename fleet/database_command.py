"""What commands that work on management's database have in common: settings, schema, and what to say without it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from management.database_settings import DatabaseSettings
from process.identity import now_ms
from process.settings import EXIT_WRONG_SETTING, Settings, WrongSettings, load
from store import database
from store.database import UnusableDatabase
from store.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import SecretStr
    from sqlalchemy.ext.asyncio import AsyncEngine

EXIT_NOT_DONE = 1
EXIT_NO_DATABASE = 4

S = TypeVar("S", bound=Settings)


def run_with_database(work: Callable[[AsyncEngine, int], Awaitable[None]]) -> int:
    """Open the database of the settings, do the work, and tell what went wrong in a sentence; the exit code.

    The work gets the engine and the time, and may raise what is of its own.
    """
    settings = settings_or_none(DatabaseSettings)
    if settings is None:
        return EXIT_WRONG_SETTING
    code = run_on(settings.database_url, work)
    if code == 0 and "database_url" not in settings.model_fields_set:
        where = make_url(settings.database_url.get_secret_value()).database
        click.echo(
            f"DATABASE_URL is not set: this was {Path(where or '').resolve()}, which management uses where it is "
            "started from this directory. Set it for the gateway too.",
            err=True,
        )
    return code


def settings_or_none(kind: type[S]) -> S | None:
    """The settings; what is wrong with them is told."""
    try:
        return load(kind)
    except WrongSettings as wrong:
        for problem in wrong.problems:
            click.echo(problem, err=True)
    return None


def run_on(url: SecretStr, work: Callable[[AsyncEngine, int], Awaitable[None]]) -> int:
    """The same on a database that is known."""

    async def with_database() -> None:
        engine = database.open(url.get_secret_value())
        try:
            await upgrade(engine)
            await work(engine, now_ms())
        finally:
            await engine.dispose()

    try:
        asyncio.run(with_database())
    except UnusableDatabase as error:
        click.echo(f"DATABASE_URL: {error}.", err=True)
        return EXIT_WRONG_SETTING
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # whoever read us has enough
        if error.errno != errno.ENOSPC:
            return _no_database(error)
        click.echo("Standard output has no space left. What was to be done before it was written is done.", err=True)
        return EXIT_NOT_DONE
    except DBAPIError as error:
        return _no_database(error.orig or error)
    return 0


def _no_database(cause: BaseException) -> int:
    click.echo(f"The database cannot be used at the moment: {cause}"[:500], err=True)
    return EXIT_NO_DATABASE
