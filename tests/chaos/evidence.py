"""Everything the checker looks at, gathered from outside: nobody is asked whether they are well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.intruder import STRANGER

if TYPE_CHECKING:
    from tests.chaos.asked import Asked
    from tests.chaos.fault import Fault
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.intruder import Tried
    from tests.chaos.life import Held
    from tests.chaos.oracle import Execution


@dataclass
class Evidence:
    """Of one episode, but for the sums, which are of the whole run."""

    asked: list[Asked]
    deaths: dict[str, float]
    """Life → loop time."""
    executions: dict[str, list[Execution]]
    charges: list[dict[str, Any]]
    charged: int
    usage: dict[str, int]
    faults: list[Fault]
    left: list[str]
    """What was still under way in the end, in sentences."""
    tried: list[Tried] = field(default_factory=list)
    """What was asked with a wrong key, or with rubbish for a body."""
    traces: list[str] = field(default_factory=list)
    """Where a canary was found."""
    looked_at: int = 0
    """In how many logs, pages and events a canary was looked for."""
    grown: list[str] = field(default_factory=list)
    """What did not return to its baseline, in sentences."""
    measured: int = 0
    left_behind: int = 0
    """Topics of processes that died lately, which the broker still keeps in memory."""
    replays: list[str] = field(default_factory=list)
    """What sums differ after a replay of the events, in sentences; empty if they agree."""
    replayed: int = 0
    poison: dict[str, int] = field(default_factory=dict)
    """Name of a poison request → how many nodes it killed."""
    silent: dict[str, int] = field(default_factory=dict)
    """Request id → how many attempts were told to begin on nodes that then died or were not to be heard, where that
    is known. It need not have been executed by any of them."""
    fenced: dict[str, int] = field(default_factory=dict)
    """Request id → how many attempts were fenced although their node lived and could be heard, as words were lost,
    where that is known."""
    unsent_s: float = 0.0
    """So long after an end its charge may still be on its way, where receipts are withheld."""
    frozen: dict[str, float] = field(default_factory=dict)
    """Life → how many seconds it was frozen."""
    dropped: int = 0
    """Messages of links and controls that the broker dropped, where that is known."""


TOPIC_FORGOTTEN_S = 360.0
"""A dead process's topic lives until the other side has closed its producer (2 min), and the broker has looked twice
whether it is in use (2 min); and some more."""
PERSISTENT_TOPICS = 3
"""Requests, dead letters, results."""
MEMORY_GROWTH_BYTES = 96 * 2**20
DESCRIPTORS_GROWTH = 40
THREADS_GROWTH = 24


async def gather(fleet: ChaosFleet, asked: list[Asked], faults: list[Fault]) -> Evidence:
    """Wait until the fleet has settled, then look everywhere."""
    left = await fleet.settled()
    await fleet.ledger.read(fleet.alive("management")[0].url)
    names = {STRANGER, *(each.name for each in asked)}
    evidence = Evidence(
        asked=asked,
        deaths={life.name: life.died_at for life in fleet.lives() if not life.alive and life.died_at is not None},
        executions={name: executions for name, executions in fleet.oracle.executions.items() if name in names},
        charges=fleet.ledger.charges,
        charged=fleet.ledger.charged,
        usage=fleet.ledger.usage,
        faults=faults,
        left=left,
    )
    await _look_for_canaries(fleet, evidence)
    await _measure(fleet, evidence)
    return evidence


async def _look_for_canaries(fleet: ChaosFleet, evidence: Evidence) -> None:
    pages = {
        f"metrics of {life.name}": await life.page("/metrics", key=fleet.key)
        for slot in fleet.slots
        if slot.lives
        for life in [slot.now]
        if life.alive
    }
    texts = {f"log of {life.name}": life.log for life in fleet.lives()}
    for place, path in texts.items():
        pages[place] = await asyncio.to_thread(path.read_text, errors="replace")
    pages |= {f"event {number}": raw for number, raw in enumerate(fleet.ledger.events)}
    for what, word in (("key", fleet.key), ("prompt", fleet.canary)):
        evidence.traces += [f"the {what} is in the {place}" for place, page in pages.items() if word in page]
    evidence.looked_at = len(pages)


async def _measure(fleet: ChaosFleet, evidence: Evidence) -> None:
    """Compare what processes hold, and what the broker keeps, with what there should be."""
    for slot in fleet.slots:
        if slot.lives and slot.now.alive and (baseline := slot.now.baseline) is not None:
            evidence.measured += 1
            evidence.grown += _growth(slot.now.name, baseline, slot.now.held())
    ours = {fleet.topics.presence, fleet.topics.roll_call, fleet.topics.backlog, fleet.topics.orders}
    nodes, gateways = len(fleet.alive("node")), len(fleet.alive("gateway"))
    listed = await fleet.admin.topics()
    persistent = [topic for topic in listed if topic.startswith("persistent:") and fleet.run in topic]
    evidence.measured += 1
    if len(persistent) > PERSISTENT_TOPICS:
        evidence.grown.append(f"persistent topics: {persistent}")
    if fleet.owns_broker:
        evidence.measured += 2
        others = [topic for topic in listed if topic.startswith("non-persistent:") and topic not in ours]
        since = asyncio.get_running_loop().time() - TOPIC_FORGOTTEN_S
        lately = [life for life in fleet.lives() if life.role != "management" and (life.died_at or 0.0) > since]
        evidence.left_behind = max(0, len(others) - nodes - gateways)
        if evidence.left_behind > len(lately):
            evidence.grown.append(f"{len(others)} link and control topics for {nodes} nodes and {gateways} gateways")
        shared = (
            (fleet.topics.presence, gateways + nodes + 1),
            (fleet.topics.roll_call, nodes),
            (fleet.topics.backlog, gateways + 1),
            (fleet.topics.orders, gateways),
        )
        for topic, expected in shared:
            if len(found := await fleet.admin.subscriptions(topic)) > expected:
                evidence.grown.append(f"{len(found)} subscriptions of {topic}, where {expected} are in use")


def _growth(name: str, baseline: Held, now: Held) -> list[str]:
    grown = []
    if now.memory_bytes - baseline.memory_bytes > MEMORY_GROWTH_BYTES:
        grown.append(f"{name} grew from {baseline.memory_bytes >> 20} to {now.memory_bytes >> 20} MiB")
    if now.descriptors - baseline.descriptors > DESCRIPTORS_GROWTH:
        grown.append(f"{name} went from {baseline.descriptors} to {now.descriptors} descriptors")
    if now.threads - baseline.threads > THREADS_GROWTH:
        grown.append(f"{name} went from {baseline.threads} to {now.threads} threads")
    return grown
