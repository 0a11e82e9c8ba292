"""Showing findings: aligned lines for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.doctor.finding import Finding

_SIGNS = {"ok": "✓", "warn": "!", "fail": "✗"}


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """One line for each finding and one below it for its remedy."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.state]} {finding.name:<{width}}  {_one_line(finding.sentence)}")
        if finding.remedy:
            lines.append(f"  {'':<{width}}  → {_one_line(finding.remedy)}")
    return lines


def as_json(findings: Sequence[Finding]) -> str:
    """``{"ok": …, "findings": […]}``, where ``ok`` tells whether nothing failed."""
    return msgspec.json.encode({"ok": is_well(findings), "findings": list(findings)}).decode()


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.state != "fail" for finding in findings)


def _one_line(text: str) -> str:
    """What a server said may stand in it."""
    return "".join(character if character.isprintable() else " " for character in text)
