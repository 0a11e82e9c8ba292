"""The part of docs/kubernetes.md that tells of the last recorded run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "kubernetes.md"
DATA = DOCS / "kubernetes" / "cluster.json"
BEGIN, END = "<!-- cluster:begin -->", "<!-- cluster:end -->"


def table(result: dict[str, Any]) -> str:
    """Of a run, from its data."""
    told = result["conditions"]
    keda = f", KEDA ({told['keda']})" if told["keda"] else ", without KEDA"
    lines = [
        f"Kubernetes {told['kubernetes']}, {told['nodes']} node of {told['cores']} cores, {told['containers']}{keda}. "
        f"{result['when']}, commit {result['commit']}, `{result['command']}`, {result['minutes']:.0f} minutes.",
        *([result["note"]] if result["note"] else []),
        "",
        "| | measured | aim | |",
        "| --- | --- | --- | --- |",
    ]
    step = ""
    for row in result["rows"]:
        if row["step"] != step:
            step = row["step"]
            lines.append(f"| **{step}** | | | |")
        verdict = {True: "met", False: "missed", None: ""}[row["met"]]
        lines.append(f"| {row['figure']} | {row['measured']} | {row['aim']} | {verdict} |")
    return "\n".join(lines)


def written() -> str:
    """The page with the recorded run in its place."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(json.loads(DATA.read_text(encoding='utf-8')))}\n{END}{rest.split(END)[1]}"
