"""The command line: ``scripts/cluster``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

from bench.machine import commit
from tests.cluster import page
from tests.cluster.kubectl import KubectlFailed
from tests.cluster.proof import Proof, conditions


def main() -> int:
    """1 if an aim was missed or a step failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        description="Installs deploy/k8s/overlays/minimal in the cluster that kubectl reaches, does to it what happens "
        "to fleets, and takes all of it away again: some ten minutes. The images have to be there: "
        "deploy/k8s/README.md.",
    )
    parser.add_argument(
        "--record", action="store_true", help="write docs/kubernetes/cluster.json and docs/kubernetes.md"
    )
    parser.add_argument("--note", default="", help="a sentence about this cluster, for the record")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    asked = parser.parse_args()
    began = time.monotonic()
    proof = Proof(lambda line: print(line, file=sys.stderr, flush=True))
    try:
        told, built_of = conditions(), commit()  # commits may follow while it runs
        proof.run()
    except (KubectlFailed, FileNotFoundError) as error:
        print(f"scripts/cluster: {error}", file=sys.stderr)
        return 1
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": built_of,
        "command": shlex.join(["scripts/cluster", *(["--record"] if asked.record else [])]),
        "minutes": (time.monotonic() - began) / 60,
        "note": asked.note,
        "conditions": told,
        "rows": [asdict(row) for row in proof.rows],
    }
    if asked.record:
        page.DATA.parent.mkdir(exist_ok=True)
        page.DATA.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        page.PAGE.write_text(page.written(), encoding="utf-8")
    print(json.dumps(result) if asked.json else page.table(result))
    return int(any(row.met is False for row in proof.rows))


if __name__ == "__main__":
    sys.exit(main())
