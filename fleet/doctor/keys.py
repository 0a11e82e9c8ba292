"""Where a gateway's stored keys are, and where the uses of limited ones are counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.doctor.finding import Finding, fail, ok, warn
from gateway.keys.limit_storage import close_storage, is_memory, open_storage
from store import database, keys
from store.migrate import HEAD, revision

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings

WAIT_S = 5.0
_DATABASE, _LIMITS = "keys database", "limits storage"
_MIGRATE = "Start management of this version, or run 'fleet keys list': either brings the tables up to date."


async def check_keys(settings: GatewaySettings) -> list[Finding]:
    """Findings for a gateway with a database; none for one without."""
    if settings.database_url is None:
        return []
    url = settings.database_url.get_secret_value()
    return [await _check_database(url), await _check_limits(settings.limits_storage_url.get_secret_value())]


async def _check_database(url: str) -> Finding:
    if _is_missing(url):
        return warn(_DATABASE, "The file that DATABASE_URL names does not exist yet.", _MIGRATE)
    try:
        engine = database.open(url)
    except database.UnusableDatabase as error:
        return fail(_DATABASE, f"DATABASE_URL: {error}.", "Let the gateway write there, or name another file.")
    try:
        async with asyncio.timeout(WAIT_S):
            found = await revision(engine)
            if found != HEAD:
                return _not_current(found)
            async with database.reading(engine) as connection:
                count = await keys.count(connection)
    except Exception as error:
        # Each driver has its own, and their words may repeat the address.
        why = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        return fail(_DATABASE, f"The database cannot be read ({why}).", "Check DATABASE_URL, and that it runs.")
    finally:
        await engine.dispose()
    return ok(_DATABASE, f"The database answers; it has {count} secret{'' if count == 1 else 's'} of keys.")


def _is_missing(url: str) -> bool:
    """Whether opening it would make the file."""
    parsed = database.check(url)
    return parsed.drivername == database.SQLITE and not Path(parsed.database or "").exists()


def _not_current(found: str | None) -> Finding:
    if found is None:
        return warn(_DATABASE, "The database has no tables yet, so it knows no key.", _MIGRATE)
    if found < HEAD:
        return warn(_DATABASE, f"The tables are of revision {found}, and this version's of {HEAD}.", _MIGRATE)
    return fail(
        _DATABASE,
        f"The tables are of revision {found}, which a newer version made.",
        "Start that version, or name another database.",
    )


async def _check_limits(url: str) -> Finding:
    if is_memory(url):
        return ok(_LIMITS, "Each gateway counts the uses of limited keys for itself.")
    storage = open_storage(url)
    try:
        async with asyncio.timeout(WAIT_S):
            answers = await storage.check()
    except Exception:
        answers = False  # a driver's words may repeat the address
    finally:
        await close_storage(storage)
    if answers:
        return ok(_LIMITS, "The store of limits answers.")
    return fail(
        _LIMITS, "The store of limits cannot be reached, so no limit holds.", "Check LIMITS_STORAGE_URL, and start it."
    )
