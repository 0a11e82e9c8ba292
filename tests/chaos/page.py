"""docs/chaos.md, from the data of the runs in docs/chaos/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.table import markdown

DOCS = Path(__file__).parent.parent.parent / "docs"
TARGET = DOCS / "chaos.md"
DATA = DOCS / "chaos"
TITLES = {
    "kill": "Kill -9",
    "points": "Crash points",
    "proxy": "A bad network",
    "poison": "A poison request",
    "simulation": "Simulation",
}

HEAD = """# What was proved, and how

Everything on this page was measured by `scripts/chaos` and written by `scripts/chaos document` from the files in
[docs/chaos](chaos). A fleet of real processes with a real Pulsar broker gets requests, whole and streamed, from clients
that log all they see; processes are killed and networks broken by a seed; then a judge compares the client log with the
ledger, the broker's backlogs and the provider's own count. The judge never asks the fleet whether it is well.

The provider's answer is known for each request. Every execution marks its chunks, and three in ten answers differ from
execution to execution, as those of a model that samples do, so that a mixture of two attempts shows byte by byte.

*Excused* counts what is allowed: a connection that breaks as its own gateway dies, and an error of a gateway whose
network was silent for over 5 s (I1); an answer that stays uncharged as its gateway died within a second after it (I4);
an answer that a second execution continued exactly where the first one had broken off (I3); executions that were
repeated (I6); topics of dead processes, which the broker keeps in memory for some minutes (I12).

```console
scripts/chaos kill --requests 2000 --kills 24 --seed 1     # a fleet, a broker, random kills
scripts/chaos points                                       # a death at every named place in the code
scripts/chaos proxy                                        # latency, resets, 10 s of silence
scripts/chaos poison                                       # a request that kills its node
scripts/chaos simulation --first 0 --seeds 10000           # all of it in one process, on a clock of its own
scripts/chaos simulation --seed 7 --trace                  # what happens in one seed, line by line
```

Each exits with 1 if an invariant was violated, and leaves its logs. Tests in `tests/chaos` run a small size of each and
control runs: with a defence switched off (a node that acknowledges before its charge is stored, a gateway that does not
compare, one that says `[DONE]` after an error, a ledger without unique ids) the judge must find the damage, and does.

A **simulation** is the same roles in one process, over the memory broker with Pulsar's ugly sides, on a clock that
jumps to whatever comes next. A seed decides the weather (messages that are late, lost, stored twice or without a
receipt, acknowledgements that are lost) and the faults: processes killed between any two steps or at a crash point,
frozen, for 90 s too, cut off, heard or hearing no more, or stopped in order; clocks that are set; topics unloaded, or
that take nothing for 40 s; brokers restarted, or with a slow disk; clients that leave, read slowly or send poison;
providers and databases that fail. The same seed is the same run to the byte, so that a violation can be looked at
again and again. Beside the invariants above S1 to S3 are checked. Excused there are also an accepted charge that is
lost with the gateway and the node, which both died before it was stored, or with a gateway that was stopped while it
could not be heard, or while the topic of results took nothing (I4). Left out is one case that was found: where the
network holds back a node's last heartbeat for seconds, and a poison request kills the node meanwhile, it passes for
alive when that heartbeat comes, and the request has one node more. Here what the network holds back is lost with its
host. Tests play 500 seeds; with one of nine defences switched off the judge must find the damage within 40.

What is too long or too large for a seed has tests of its own in `tests/simulation`: a gateway that is stopped or killed
while it holds hundreds of streams, a topic of results that takes nothing for an hour, a broker that comes back empty or
with what it had some time before, and a machine that sleeps for an hour in mid-answer.
"""

LIMITS = """## What this does not show

* Kill -9 does not test the disk: what the operating system had taken over survives the process. Power cuts and full
  disks are another matter; the broker syncs its journal and the ledger its commits, which is not proved here.
* n kills without a violation bound the rate of violations per kill at 3/n, with 95 % confidence; only kills that hit
  work in flight are counted for it.
* Topics and subscriptions of the dead are counted by `kill` only; the others look at processes and persistent topics.
* One machine, one clock, one broker process. Nothing here is a test of a cluster of brokers.
* A simulation shows nothing of HTTP servers and clients, sockets, threads, the pulsar-client library, a real broker's
  order of events, databases, engines other than the oracle, stored keys and their limits, TLS, memory and speed. A node
  there has 3 slots, and an answer at most 60 words. What it replaces is listed in tests/simulation/seams.py.
"""


def write() -> None:
    """Write the page from all results that there are."""
    parts = [HEAD]
    for what, title in TITLES.items():
        for file in sorted(DATA.glob(f"{what}*.json")):
            result = json.loads(file.read_text())
            parts.append(f"## {title}\n\n{markdown(result)}\n{_bound(result)}")
    TARGET.write_text("\n".join([*parts, LIMITS]))


def _bound(result: dict[str, Any]) -> str:
    kinds = ("node", "gateway", "management", "broker")
    hits = {kind: result["faults"].get(kind, {}).get("hit work in flight", 0) for kind in kinds}
    total = sum(hits.values())
    if result["what"] != "kill" or not total or result["violations"]:
        return ""
    each = ", ".join(f"{kind} {3 / count:.1%}" for kind, count in hits.items() if count)
    return (
        f"\n{total} kills that hit work in flight: at most {3 / total:.1%} of such kills violate anything ({each}).\n"
    )
