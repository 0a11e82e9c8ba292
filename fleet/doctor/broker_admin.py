"""What only the broker's admin interface knows: the settings it runs with, and its clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.doctor.asking import Unanswered, ask, clock_finding
from fleet.doctor.broker import DELAY_REMEDY
from fleet.doctor.finding import Finding, ok, warn

if TYPE_CHECKING:
    from ssl import SSLContext

SETTING = "managedLedgerNewEntriesCheckDelayInMillis"
_NAME = "broker settings"
_PATH = "/admin/v2/brokers/configuration/runtime"


async def check_admin(admin_url: str, token: str | None, trusted: SSLContext) -> list[Finding]:
    """Findings on the broker's settings and clock; only warnings, as the fleet runs without this interface.

    ``trusted`` is what an https one is checked with.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        reply = await ask(admin_url + _PATH, headers, trusted)
    except Unanswered as why:
        remedy = (
            "Set PULSAR_ADMIN_URL to the broker's admin address, and PULSAR_TLS_TRUST_CERTS where an authority of your "
            "own vouches for it; without it, judge by the round trip."
        )
        return [warn(_NAME, f"The broker's admin interface at {admin_url} could not be asked: {why}.", remedy)]
    found = [_delay_finding(reply.status, reply.json)]
    if (clock := clock_finding("broker clock", reply)) is not None:
        found.append(clock)
    return found


def _delay_finding(status: int, settings: object) -> Finding:
    value = settings.get(SETTING) if status == 200 and isinstance(settings, dict) else None
    if not isinstance(value, str) or not value.isdigit():
        remedy = "Use a token that may read the broker's settings, or judge by the round trip."
        return warn(_NAME, f"The admin interface answered {status} and did not tell {SETTING}.", remedy)
    if int(value) > 1:
        return warn(_NAME, f"{SETTING} is {int(value)}: every request waits about that many ms.", DELAY_REMEDY)
    return ok(_NAME, f"{SETTING} is {int(value)}.")
