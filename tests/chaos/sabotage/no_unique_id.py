"""A ledger that does not notice that an event is told again: what it hears has an id of its own each time.

``CRASH_POINT_OF_CHARGES`` is armed once a charge was read: a batch without any does no damage when it comes again.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from typing import TYPE_CHECKING

import fleet.__main__
from management.ledger import facts, journal
from process import crash

if TYPE_CHECKING:
    from management.ledger.facts import Fact

_fact_of = facts.fact_of


def _always_new(payload: bytes) -> Fact:
    fact = _fact_of(payload)
    if fact.charge is None:
        return fact
    crash.install(os.environ.get("CRASH_POINT_OF_CHARGES"))
    suffix = f"-{secrets.token_hex(4)}"
    event = {**fact.event, "event_id": fact.event["event_id"] + suffix}
    charge = {**fact.charge, "request_id": fact.charge["request_id"] + suffix}
    return dataclasses.replace(fact, event=event, charge=charge)


if __name__ == "__main__":
    setattr(journal, "fact_of", _always_new)  # noqa: B010 (it is imported there, not exported)
    fleet.__main__.main()
