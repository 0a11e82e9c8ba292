"""``fleet …`` and ``python -m fleet …``."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from pathlib import Path

import click

from process import __version__

ROLES = ("gateway", "node", "management")

ROLES_EPILOG = (
    "Its settings are in docs/settings.md. Exit codes: 0 stopped on request, 2 a wrong setting, 3 a port in use."
)

LATE = {
    "start": ("fleet.start.command", "start"),
    "container": ("fleet.start.command", "container"),
    "dead-letters": ("fleet.dead_letters.command", "dead_letters"),
    "access": ("fleet.access.command", "access"),
    "bench": ("fleet.bench", "bench"),
    "credentials": ("fleet.credentials.command", "credentials"),
    "keys": ("fleet.keys.command", "keys"),
    "local": ("fleet.local.command", "local"),
    "budgets": ("fleet.budgets.command", "commands"),
    "ledger": ("fleet.ledger.command", "ledger"),
    "usage": ("fleet.reports.command", "usage"),
    "requests": ("fleet.reports.command", "requests"),
    "nodes": ("fleet.reports.command", "nodes"),
    "models": ("fleet.reports.command", "models"),
    "errors": ("fleet.reports.command", "errors"),
    "top": ("fleet.reports.top", "top"),
    "pause": ("fleet.operations.command", "pause"),
    "resume": ("fleet.operations.command", "resume"),
    "drain": ("fleet.operations.command", "drain"),
    "cancel": ("fleet.operations.command", "cancel"),
}
"""Commands by module and name that bring along what no role needs: read only by whoever asks for them."""


UNTIL_STOPPED = {*ROLES, "controller", "up", "start", "container"}
"""Commands that run until a signal asks them to stop."""


class Commands(click.Group):
    """With those of :data:`LATE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted([*super().list_commands(ctx), *LATE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in LATE:
            return super().get_command(ctx, cmd_name)
        module, name = LATE[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fleet")
def main() -> None:
    """Run language models for others: a gateway, worker nodes, and the ledger of what they did.

    Everything is configured by environment variables; docs/settings.md lists them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.isatty():
            stream.reconfigure(errors="replace")  # not every terminal knows every character
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # nothing that is exported may be lost


@main.command(epilog=ROLES_EPILOG, short_help="Gateway, node and management in one process.")
def up() -> None:
    """Gateway, node and management in one process, on the embedded broker: what waits is lost with it."""
    from fleet.up import up as run_all

    sys.exit(run_all())


@main.command(epilog=f"{ROLES_EPILOG} Of several processes also 1: they died again and again, or had to be killed.")
def gateway() -> None:
    """The gateway: OpenAI's API on PORT (8081)."""
    from gateway.__main__ import main as run

    sys.exit(run())


@main.command(epilog=ROLES_EPILOG)
def node() -> None:
    """One worker node: NODE_TYPE=static, remote or local."""
    from workernode.__main__ import main as run

    sys.exit(run())


@main.command(epilog=ROLES_EPILOG, short_help="The ledger, its REST API and the dashboard.")
def management() -> None:
    """The ledger, and what is seen of it: a REST API and the dashboard on MANAGEMENT_PORT (8082)."""
    from fleet.dead_letters.late_replay import replay
    from management.__main__ import main as run

    sys.exit(run(replay))


@main.command(epilog=ROLES_EPILOG)
def controller() -> None:
    """The controller of AIModels in a Kubernetes cluster."""
    from controller.__main__ import main as run

    sys.exit(run())


@main.command(short_help="Print the manifests of AIModels.")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--namespace", default="default", show_default=True, help="Of AIModels that name none.")
@click.option("--keda/--no-keda", default=True, show_default=True, help="Whether the cluster has KEDA.")
@click.option("--pod-monitors", is_flag=True, help="The cluster has Prometheus' operator.")
def render(files: tuple[Path, ...], *, namespace: str, keda: bool, pod_monitors: bool) -> None:
    """Print the manifests of the AIModels in FILES (YAML; - is standard input), as the controller would apply them.

    Settings are the controller's: PULSAR_URL, PULSAR_ADMIN_URL, IMAGE and so on. A model's topics are made by its first
    node or its first request; KEDA takes them for missing until then.

    \b
    Exit codes: 0 printed, 2 a wrong setting or option, 65 a file that holds something else.
    """
    try:
        from fleet.render import render_files
    except ModuleNotFoundError as missing:
        raise click.ClickException(f"{missing.name} is missing: install requirements/kubernetes.txt.") from None

    sys.exit(render_files(files, namespace=namespace, keda=keda, pod_monitors=pod_monitors))


@main.command(short_help="Check what a fleet needs, with a remedy for each.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--role", type=click.Choice(ROLES), multiple=True, help="Check only this role.")
def doctor(*, as_json: bool, role: tuple[str, ...]) -> None:
    """Check settings, broker, topics, provider, clocks, keys, limits and ports; a sentence and a remedy for each.

    It reads the environment that it is run in: run it where the roles run, with their settings. PULSAR_ADMIN_URL is
    where the broker is asked for its own settings.

    \b
    Exit codes: 0 nothing failed, 1 something did.
    """
    from fleet.doctor import doctor as examine

    sys.exit(examine(role or ROLES, as_json=as_json))


def run() -> None:
    """The command. To read what one needs takes half a second, in which a signal asks it to stop as it does later."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if UNTIL_STOPPED.intersection(sys.argv[1:2]) and signal.getsignal(number) is not signal.SIG_IGN:
            # Not by an exception: one that is raised while an object is finalised goes nowhere.
            signal.signal(number, lambda *_: os._exit(0))
    main()


if __name__ == "__main__":
    run()
