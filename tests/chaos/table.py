"""The result of a run: as data, and as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.checker import Finding
    from tests.chaos.fault import Fault

EXAMPLES = 5


@dataclass
class Result:
    """What one run found."""

    what: str
    command: str
    seed: int | None
    seconds: float
    requests: int
    """That were accepted and ended."""
    ends: dict[str, int]
    faults: dict[str, dict[str, int]]
    """By kind: how many, and how many of them hit work in flight."""
    executions: int
    charges: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        return sum(len(finding.violations) for finding in self.findings)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "violations": self.violations}


def counted(faults: Iterable[Fault]) -> dict[str, dict[str, int]]:
    """Faults by kind."""
    counts: dict[str, dict[str, int]] = {}
    for fault in faults:
        count = counts.setdefault(fault.kind, {"done": 0, "hit work in flight": 0})
        count["done"] += 1
        count["hit work in flight"] += fault.in_flight > 0
    return counts


def markdown(result: dict[str, Any]) -> str:
    """The table of a result, from its data."""
    seed = "" if result["seed"] is None else f" (seed {result['seed']})"
    lines = [
        f"`{result['command']}`{seed}: {result['requests']} requests in {result['seconds']:.0f} s, "
        f"{result['executions']} executions, {result['charges']} charges.",
        "",
        "| fault | done | hit work in flight |",
        "|---|---|---|",
        *(f"| {kind} | {count['done']} | {count['hit work in flight']} |" for kind, count in result["faults"].items()),
        "",
        "| how requests ended | |",
        "|---|---|",
        *(f"| {end} | {count} |" for end, count in sorted(result["ends"].items())),
        "",
        "| | invariant | checked | excused | violations |",
        "|---|---|---|---|---|",
    ]
    for finding in result["findings"]:
        violations = len(finding["violations"])
        cells = (finding["invariant"], finding["claim"], finding["checked"], finding["excused"], violations)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", *(f"* {line}" for line in _violations(result))] if result["violations"] else []
    lines += ["", *(f"* {note}" for note in result["notes"])] if result["notes"] else []
    return "\n".join(lines)


def _violations(result: dict[str, Any]) -> list[str]:
    findings = result["findings"]
    return [f"**{each['invariant']}** violated: {text}" for each in findings for text in each["violations"][:EXAMPLES]]


def violations(findings: list[Finding]) -> str:
    """What was violated, with examples, for a test's message."""
    return "\n".join(
        f"{finding.invariant} {finding.claim}: {len(finding.violations)}\n  "
        + "\n  ".join(finding.violations[:EXAMPLES])
        for finding in findings
        if finding.violations
    )
