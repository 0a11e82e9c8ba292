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

from tests.chaos import scenarios
from tests.chaos.kill_loop import SHARES
from tests.chaos.table import Result, markdown
from tests.pulsar_server import PulsarServer

if TYPE_CHECKING:
    from tests.chaos.scenarios import Bench


def main() -> int:
    """Run what was asked for; 1 if an invariant was violated."""
    arguments = _arguments()
    home = Path(tempfile.mkdtemp(prefix="workernode-chaos-"))
    server = PulsarServer(home)
    try:
        server.start()
        bench = asyncio.run(_run(arguments, server, home))
    finally:
        server.stop()
    command = " ".join(["scripts/chaos", arguments.what, *_shown(arguments)])
    result = bench.result(arguments.what, command, arguments.seed)
    _show(result, arguments)
    if result.violations:
        print(f"The logs are in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


async def _run(arguments: argparse.Namespace, server: PulsarServer, home: Path) -> Bench:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    match arguments.what:
        case "kill":
            return await scenarios.kills(
                server,
                home,
                seed=arguments.seed,
                requests=arguments.requests,
                kills=arguments.kills,
                minutes=arguments.minutes,
                spare=frozenset(arguments.spare),
                say=say,
            )
        case _:
            raise AssertionError(arguments.what)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Faults on a fleet of real processes, judged.")
    parser.add_argument("what", choices=("kill",))
    parser.add_argument("--requests", type=int, default=2000, help="at least so many accepted requests")
    parser.add_argument("--kills", type=int, default=24, help="so many kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="end earlier than requests and kills ask for")
    parser.add_argument("--spare", nargs="*", default=[], choices=tuple(SHARES), help="what is not killed")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="write the result there as data")
    return parser.parse_args()


def _shown(arguments: argparse.Namespace) -> list[str]:
    shown = [f"--requests {arguments.requests}", f"--kills {arguments.kills}", f"--seed {arguments.seed}"]
    shown += [f"--spare {' '.join(arguments.spare)}"] if arguments.spare else []
    return [*shown, *([f"--minutes {arguments.minutes:g}"] if arguments.minutes else [])]


def _show(result: Result, arguments: argparse.Namespace) -> None:
    data = result.data()
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(data, indent=1) + "\n")
    print(markdown(data) if arguments.markdown else json.dumps(data, indent=1))


if __name__ == "__main__":
    sys.exit(main())
