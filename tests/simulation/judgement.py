"""What a simulation is judged by: the invariants of :mod:`tests.chaos.checker`, and what can be seen only from here."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.chaos.checker import Finding, check
from tests.chaos.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.asked import Asked
    from tests.chaos.evidence import Evidence
    from tests.simulation.counting_house import Books

NOT_SIMULATED = frozenset({"I11", "I12", "I13", "I14"})
"""Keys, resources, canaries and rubbish need real processes: see ``scripts/chaos kill``."""
GONE_S = 3.5
"""A gateway that cannot be heard for so long may be found gone: nodes wait 5 s from the first frame that nobody
acknowledges, which may have been lost, or have gone out, some time before."""
SUSPECT_S = 0.8
"""The same for one that was found gone before: nodes wait 1 s."""
HEARD_S = 1.0
"""Two absences of one gateway with less between them are one: nobody need have heard it."""
STATUSES = {
    "answered": {"answered"},
    "failed": {"failed", "expired", "dead", "abandoned"},
    "hung_up": {"answered", "cancelled", "failed", "expired", "dead"},
    "refused": {"cancelled", "failed"},
}
"""How an end may be called in the ledger, by what the client saw."""


def judge(evidence: Evidence, books: Books, published: dict[str, str], faults_of_code: list[str]) -> list[Finding]:
    """All findings of a seed."""
    evidence.faults += cut_off(evidence.faults)
    findings = [finding for finding in check(evidence) if finding.invariant not in NOT_SIMULATED]
    ends = one_end_in_the_ledger(evidence, books, published)
    return [*findings, ends, same_content(books), no_fault_of_code(faults_of_code)]


def one_end_in_the_ledger(evidence: Evidence, books: Books, published: dict[str, str]) -> Finding:
    """S1. What a dead gateway knew is gone with it."""
    finding = Finding("S1", "the ledger hears the end of every published request, as its client did", 0)
    ends = {end["request_id"]: end["status"] for end in books.ends}
    for each in evidence.asked:
        if each.name not in published or each.end not in STATUSES:
            continue
        finding.checked += 1
        status = ends.get(published[each.name])
        if status in STATUSES[each.end]:
            continue
        if each.life in evidence.deaths or _cut_off(evidence, each):
            finding.excused += 1
        else:
            finding.violations.append(f"{status} in the ledger: {each}")
    return finding


def same_content(books: Books) -> Finding:
    """S2."""
    claim = "an event that is told again tells the same"
    return Finding("S2", claim, len(books.facts), [f"{event_id} was told otherwise" for event_id in books.conflicts])


def no_fault_of_code(faults: list[str]) -> Finding:
    """S3."""
    return Finding("S3", "no callback, task, request or engine fails in a way that nobody foresaw", 1, faults)


def cut_off(faults: list[Fault]) -> list[Fault]:
    """Absences of one gateway that together are so long that nodes may take it for gone."""
    found: list[Fault] = []
    absences: dict[str, list[tuple[float, float]]] = {}
    everybody = [(fault.at, fault.until) for fault in faults if fault.kind == "broker" and fault.until is not None]
    for fault in faults:
        if fault.whom.startswith("gateway") and fault.until is not None:
            absences.setdefault(fault.whom, list(everybody)).append((fault.at, fault.until))
    for times in absences.values():
        was_gone = False
        for start, end in _joined(sorted(times)):
            if end - start >= (SUSPECT_S if was_gone else GONE_S):
                was_gone = True
                found.append(Fault("black hole", start, 0, whom="gateway", until=end))
    return found


def _joined(times: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined = [times[0]]
    for _, (start, end) in pairwise(times):
        before = joined[-1]
        if start - before[1] < HEARD_S:
            joined[-1] = (before[0], max(before[1], end))
        else:
            joined.append((start, end))
    return joined


def _cut_off(evidence: Evidence, each: Asked) -> bool:
    # Its nodes may also have told of their own end while nobody was there to tell of the client's.
    return any(fault.kind == "black hole" and each.began_at < (fault.until or 0.0) for fault in evidence.faults)
