"""The commands `fleet start` and `fleet container`."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from fleet.start import fleet_plan, image
from fleet.start.broker_choice import ASKABLE, Broker, Choice, choose, find_home
from fleet.start.ending import CannotStart
from fleet.start.environment import complete, names_in_files
from fleet.start.greeting import greeting
from fleet.start.ports import require_free
from fleet.start.printer import Printer
from fleet.start.reachable import require_broker
from fleet.start.role import Wave
from fleet.start.settings import StartSettings
from fleet.start.supervisor import Manner, Supervisor

CONTAINER_STOP_WAIT_S = 9.5
"""`docker stop` sends SIGKILL after ten seconds."""


@click.command(short_help="Start a fleet on this machine.")
@click.option("--pulsar", type=click.Choice(ASKABLE), default="auto", show_default=True, help="Which broker to use.")
@click.argument("where", type=click.Choice(["processes", "docker"]), default="processes")
def start(pulsar: str, where: str) -> None:
    """Start a gateway, management and one node on this machine, and stop them on Ctrl-C.

    \b
    Broker (--pulsar auto): PULSAR_URL if set; else PULSAR_HOME or ./apache-pulsar*, started as
    `bin/pulsar standalone`; else the embedded broker, everything in one process.
      docker    the official image, in a container of its own
      maven     deploy/pulsar/run, which needs Java and Maven
      embedded  the embedded broker, whatever else is there

    \b
    WHERE is `processes`, or `docker`: build the image of this checkout and run it with these settings
    (gateway and node on PULSAR_URL's broker; without PULSAR_URL all three on the embedded one).

    \b
    Settings are environment variables; .env.local and .env in this directory add to them.
      START_WAIT_S  90   how long the roles may take to become ready
      STOP_WAIT_S   40   how long everything may take to stop; a second Ctrl-C stops at once
      PULSAR_PORT, PULSAR_ADMIN_PORT, PULSAR_DATA   of a broker that is started here

    \b
    Exit codes: 0 stopped on request, 1 a process died, 2 a wrong setting, 3 a port in use,
    4 no broker, 5 not ready in time, 6 a program is missing or the Docker daemon is not running.
    """
    sys.exit(told(lambda printer: _start(pulsar, where, printer)))


@click.command(short_help="Run roles as process 1 of a container.")
@click.argument("roles", nargs=-1, type=click.Choice(["gateway", "node", "management"]))
def container(roles: tuple[str, ...]) -> None:
    """Run ROLES (gateway and node if none are named) as process 1 of a container.

    SIGTERM goes to all of them at once; they have 9.5 s. If one ends, the others are stopped and its exit code is ours.
    """
    plan = fleet_plan.container_plan(roles or ("gateway", "node"), dict(os.environ))
    manner = Manner(
        start_wait_s=CONTAINER_STOP_WAIT_S,
        stop_wait_s=CONTAINER_STOP_WAIT_S,
        stop_together=True,
        inherit_output=True,
        pass_on_code=True,
    )
    sys.exit(told(lambda printer: supervise(plan, manner, printer, ())))


def told(action: Callable[[Printer], int]) -> int:
    """Run `action`; what kept it from starting goes to standard error, after everything else that was said."""
    printer = Printer(sys.stdout)
    try:
        return action(printer)
    except CannotStart as problem:
        printer.close()
        for line in problem.lines:
            click.echo(line, err=True)
        return problem.ending
    finally:
        printer.close()


def _start(pulsar: str, where: str, printer: Printer) -> int:
    directory = Path.cwd()
    env = complete(os.environ, directory)
    settings = StartSettings.read(env)
    home = find_home(settings.pulsar_home, directory) if pulsar == "auto" and where == "processes" else None
    choice = choose(pulsar, settings.pulsar_url, home)
    printer.say("fleet", f"broker: {choice.broker} ({choice.why})")
    _check(choice, settings)
    if where == "docker":
        plan = image.waves(
            choice, settings, env, directory, dict.fromkeys(names_in_files(directory), False) | image.setting_names()
        )
        if hint := image.host_network_hint():
            printer.say("fleet", hint)
    else:
        plan = fleet_plan.plan(choice, settings, env, directory)
    manner = Manner(start_wait_s=settings.start_wait_s, stop_wait_s=settings.stop_wait_s)
    return supervise(plan, manner, printer, greeting(settings))


def _check(choice: Choice, settings: StartSettings) -> None:
    require_free(fleet_plan.addresses(choice, settings))
    if choice.broker is Broker.EXTERNAL and settings.pulsar_url:
        require_broker(settings.pulsar_url)


def supervise(plan: Sequence[Wave], manner: Manner, printer: Printer, words: Sequence[str]) -> int:
    """Run `plan` to its end and return its exit code; `words` are said when everything is ready."""

    async def run() -> int:
        def announce() -> None:
            for line in words:
                printer.say("fleet", line)

        return await Supervisor(plan, manner, printer.say).run(announce)

    return asyncio.run(run())
