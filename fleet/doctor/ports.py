"""The ports of the roles: free, or served by our own role already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.doctor.asking import Unanswered, ask
from fleet.doctor.finding import Finding, fail, ok
from fleet.start.ending import CannotStart
from fleet.start.ports import require_free
from process.tls import pinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.start.ports import Address


async def check_ports(addresses: Sequence[Address]) -> list[Finding]:
    """A finding for each role's port."""
    found = []
    for place, address in enumerate(addresses):
        twin = next((other for other in addresses[:place] if other.port == address.port and address.port), None)
        if twin is not None:
            sentence = f"{twin.setting} and {address.setting} are both {address.port}."
            found.append(fail(f"{address.role} port", sentence, "Give each its own port."))
        else:
            found.append(await _check_port(address))
    return found


async def _check_port(address: Address) -> Finding:
    name = f"{address.role} port"
    try:
        require_free([address])
    except CannotStart as problem:
        if await _is_ours(address):
            return ok(name, f"A role of ours serves {address.url} already.")
        sentence, _, remedy = problem.lines[0].partition(": ")
        return fail(name, f"{sentence[:1].upper()}{sentence[1:]}.", f"{remedy[:1].upper()}{remedy[1:]}.")
    return ok(name, f"Port {address.port} on {address.host} is free.")


async def _is_ours(address: Address) -> bool:
    try:
        trusted = pinned(address.certificate) if address.certificate else None
        reply = await ask(f"{address.url}/livez", {}, trusted)
    except (Unanswered, OSError):
        return False
    return reply.status == 200 and reply.json == {"status": "ok"}
