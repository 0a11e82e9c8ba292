"""``fleet top``: models and nodes, live."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from datetime import UTC, datetime

import click

from fleet.reports.management import EPILOG, Management, NoAnswer
from fleet.reports.rows import model_rows, node_rows
from fleet.table import table
from fleet.terminal import fitting

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command(epilog=EPILOG)
@click.option("--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once, as it also does where no terminal is.")
def top(*, every: float, once: bool) -> None:
    """Models and nodes as they are now, until Ctrl-C."""
    management = Management()
    if once or not sys.stdout.isatty():
        try:
            click.echo(asyncio.run(_screen(management)))
        except NoAnswer as why:
            click.echo(str(why), err=True)
            sys.exit(why.exit_code)
        return
    try:
        asyncio.run(_on_a_screen_of_its_own(management, every))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        pass


async def _on_a_screen_of_its_own(management: Management, every_s: float) -> None:
    this = asyncio.current_task()
    assert this is not None
    # By itself SIGTERM would end it on the spot, with the cursor hidden. A handler that raises is no way out of
    # that: what is raised while an object is finalised goes nowhere.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    click.echo(_ENTER, nl=False)
    try:
        await _live(management, every_s)
    finally:
        click.echo(_LEAVE, nl=False)


async def _live(management: Management, every_s: float) -> None:
    while True:
        try:
            screen = await _screen(management)
        except NoAnswer as why:
            screen = f"{_now()}  {why}"
        width, height = shutil.get_terminal_size()
        lines = [fitting(line, width) + _END_OF_LINE for line in screen.splitlines()[: height - 1]]
        click.echo(_HOME + "\n".join(lines) + _END, nl=False)
        await asyncio.sleep(every_s)


async def _screen(management: Management) -> str:
    models, nodes = await asyncio.gather(management.ask("models", {}), management.ask("nodes", {"gone": 0}))
    parts = [_now()]
    for rows, nothing in ((model_rows(models), "No model is there."), (node_rows(nodes), "No node is there.")):
        parts.append(table(rows) if rows else nothing)
    return "\n\n".join(parts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
