"""`fleet start docker`: build the image of this checkout and run it with the settings of this environment."""

import sys
from collections.abc import Collection
from pathlib import Path

from fleet.start import docker
from fleet.start.broker_choice import Broker, Choice
from fleet.start.ending import CannotStart, Ending
from fleet.start.fleet_plan import Roles, certificates, ready_urls
from fleet.start.role import Role, Wave
from fleet.start.settings import StartSettings
from process.settings import variables

TAG = "workernode:checkout"


def setting_names() -> set[str]:
    """Every variable that the gateway, a node or management reads, those with a secret's file too."""
    # Here, because the other ways of starting must not load the roles only to read their names.
    from gateway.settings import GatewaySettings
    from management.settings import ManagementSettings
    from workernode.settings import NodeSettings

    return variables(GatewaySettings) | variables(ManagementSettings) | variables(NodeSettings)


def waves(
    choice: Choice, settings: StartSettings, env: dict[str, str], directory: Path, names: Collection[str]
) -> tuple[Wave, ...]:
    """Build, then run: the gateway and a node on PULSAR_URL's broker, or everything on the embedded one.

    `names` are the variables to hand over: by name, so that no value stands on a command line.
    Raises CannotStart when there is no daemon, or no Dockerfile.
    """
    if choice.broker not in (Broker.EXTERNAL, Broker.EMBEDDED):
        raise CannotStart(Ending.SETTING, f"{choice.broker} cannot be started from a container: set PULSAR_URL instead")
    if not (directory / "Dockerfile").is_file():
        raise CannotStart(Ending.SETTING, f"{directory} has no Dockerfile: run ./start.sh docker in a checkout")
    docker.require_daemon(env)
    name = docker.container_name("fleet")
    at = Roles.of(settings)
    command, ready = ((), (at.gateway, at.node)) if choice.broker is Broker.EXTERNAL else (("up",), at.all)
    argv = (
        *("docker", "run", "--rm", "--name", name, "--label", docker.LABEL, "--network", "host"),
        *(part for one in sorted(names) if env.get(one) for part in _handed(one, env[one], directory)),
        *(TAG, *command),
    )
    build = ("docker", "build", "--quiet", "--target", "workernode", "--tag", TAG, str(directory))
    return (
        (Role("build", build, {**env, "DOCKER_BUILDKIT": "1"}, once=True),),
        (Role("fleet", argv, env, ready_urls(ready), certificates(ready), undo=docker.remove(name)),),
    )


def _handed(name: str, value: str, directory: Path) -> tuple[str, ...]:
    """A variable of this environment; the file that it names comes along, under the same path."""
    path = directory / value
    if not name.endswith("_FILE") or not path.is_file():
        return ("--env", name)
    return ("--env", f"{name}={path.resolve()}", "--volume", f"{path.resolve()}:{path.resolve()}:ro")


def host_network_hint() -> str | None:
    """What to know where a container's host network is not this machine's."""
    if sys.platform == "linux":
        return None
    return "outside Linux the container shares our ports only with host networking switched on in Docker Desktop"
