"""The command line of the proving tools: ``scripts/chaos``."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos import page, scenarios
from tests.chaos.bad_network import bad_network
from tests.chaos.fleet import ChaosFleet
from tests.chaos.kill_loop import SHARES
from tests.chaos.points import all_points
from tests.chaos.poison import poisoned
from tests.chaos.table import Result, markdown
from tests.pulsar_server import PulsarServer
from tests.simulation.campaign import campaign
from tests.simulation.episode import play

if TYPE_CHECKING:
    from tests.chaos.scenarios import Bench


def main() -> int:
    """Run what was asked for; 1 if an invariant was violated."""
    arguments = _arguments()
    if arguments.what == "document":
        page.write()
        return 0
    if arguments.what == "simulation":
        return _simulate(arguments)
    home = Path(tempfile.mkdtemp(prefix="workernode-chaos-"))
    server = PulsarServer(home)
    try:
        server.start()
        bench = asyncio.run(_run(arguments, server, home))
    finally:
        server.stop()
    result = bench.result(
        arguments.what, " ".join(["scripts/chaos", arguments.what, *_shown(arguments)]), arguments.seed
    )
    _show(result, arguments)
    if result.violations:
        print(f"The logs are in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    if arguments.trace:
        outcome = play(arguments.seed, traced=True)
        print("\n".join(outcome.trace))
        print(outcome if outcome.violations else f"seed {arguments.seed}: no violation")
        return bool(outcome.violations)
    found = campaign(arguments.first, arguments.seeds, _say)
    _show(found.result, arguments)
    return bool(found.failed)


async def _run(arguments: argparse.Namespace, server: PulsarServer, home: Path) -> Bench:
    seed = arguments.seed
    match arguments.what:
        case "kill":
            size = scenarios.Size(
                arguments.requests,
                arguments.kills,
                arguments.minutes,
                frozenset(arguments.spare or ()),
                arguments.clients,
            )
            return await scenarios.kills(server, home, seed=seed, size=size, say=_say)
        case "proxy":
            return await bad_network(server, home, seed=seed, say=_say)
        case "points":
            async with ChaosFleet(server, home) as fleet:
                return await all_points(fleet, seed, _say)
        case _:
            async with ChaosFleet(server, home) as fleet:
                return await poisoned(fleet, seed)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Faults on a fleet of real processes, judged.")
    parser.add_argument(
        "what",
        choices=("kill", "points", "proxy", "poison", "simulation", "document"),
        help="random kills; a death at every crash point; a bad network; a request that kills its node; all of it in "
        "one process on a clock of its own; or write docs/chaos.md from docs/chaos/*.json",
    )
    parser.add_argument("--requests", type=int, default=2000, help="kill: at least so many accepted requests")
    parser.add_argument("--kills", type=int, default=24, help="kill: about so many kills")
    parser.add_argument("--clients", type=int, default=scenarios.CLIENTS, help="kill: how many ask at once")
    parser.add_argument("--minutes", type=float, help="kill: end earlier than requests and kills ask for")
    parser.add_argument("--spare", nargs="*", choices=tuple(SHARES), help="kill: what is not killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=500, help="simulation: how many")
    parser.add_argument("--first", type=int, default=0, help="simulation: the first of them")
    parser.add_argument(
        "--trace", action="store_true", help="simulation: play --seed alone, and tell what happens in it"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown instead of JSON")
    parser.add_argument("--json", type=Path, help="write the result there as data")
    return parser.parse_args()


def _shown(arguments: argparse.Namespace) -> list[str]:
    shown = [f"--seed {arguments.seed}"]
    if arguments.what == "kill":
        shown = [f"--requests {arguments.requests}", f"--kills {arguments.kills}", *shown]
        shown += [f"--clients {arguments.clients}"] if arguments.clients != scenarios.CLIENTS else []
        shown += [f"--minutes {arguments.minutes:g}"] if arguments.minutes else []
        shown += [f"--spare {' '.join(arguments.spare)}"] if arguments.spare else []
    return shown


def _show(result: Result, arguments: argparse.Namespace) -> None:
    data = result.data()
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(data, indent=1) + "\n")
    print(markdown(data) if arguments.markdown else json.dumps(data, indent=1))


if __name__ == "__main__":
    sys.exit(main())
