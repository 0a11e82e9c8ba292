"""`fleet start docker`: build the image of this checkout and run it with the settings of this environment."""

import sys
from collections.abc import Mapping
from pathlib import Path

from fleet.start import docker
from fleet.start.broker_choice import Broker, Choice
from fleet.start.ending import CannotStart, Ending
from fleet.start.fleet_plan import Roles, certificates, ready_urls
from fleet.start.role import Role, Wave
from fleet.start.settings import StartSettings
from process.settings import Settings, path_variables, variables

TAG = "workernode:checkout"
USER = 10001
"""Of the image, and of its group."""


def setting_names() -> dict[str, bool]:
    """Every variable that the gateway, a node or management reads, and whether it names a file."""
    # Here, because the other ways of starting must not load the roles only to read their names.
    from gateway.settings import GatewaySettings
    from management.settings import ManagementSettings
    from workernode.settings import NodeSettings

    roles: tuple[type[Settings], ...] = (GatewaySettings, ManagementSettings, NodeSettings)
    files = {"TOKENIZER"}.union(*map(path_variables, roles))
    return {name: name in files for name in set[str]().union(*map(variables, roles))}


def waves(
    choice: Choice, settings: StartSettings, env: dict[str, str], directory: Path, names: Mapping[str, bool]
) -> tuple[Wave, ...]:
    """Build, then run: the gateway and a node on PULSAR_URL's broker, or everything on the embedded one.

    `names` are the variables to hand over, and whether one names a file: by name, so that no value stands on a
    command line.
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
    handed = {one: _handed(one, env[one], directory) if names[one] else None for one in sorted(names) if env.get(one)}
    argv = (
        *("docker", "run", "--rm", "--name", name, "--label", docker.LABEL, "--network", "host"),
        *(part for one, file in handed.items() for part in ("--env", one if file is None else f"{one}={file}")),
        # Two variables may name one file.
        *(part for file in sorted(filter(None, {*handed.values()})) for part in ("--volume", f"{file}:{file}:ro")),
        *(TAG, *command),
    )
    build = ("docker", "build", "--quiet", "--target", "workernode", "--tag", TAG, str(directory))
    return (
        (Role("build", build, {**env, "DOCKER_BUILDKIT": "1"}, once=True),),
        (Role("fleet", argv, env, ready_urls(ready), certificates(ready), undo=docker.remove(name)),),
    )


def _handed(name: str, value: str, directory: Path) -> str | None:
    """The file that a variable names and that comes along, under the same path; None where it names none.

    Raises CannotStart if the container could not read it: inside it is the same file, with the same owner.
    """
    path = (directory / value).resolve()
    if not path.is_file():
        return None
    about = path.stat()
    readable = 0o004 | (0o400 if about.st_uid == USER else 0) | (0o040 if about.st_gid == USER else 0)
    # Outside Linux Docker's virtual machine gives the container all that whoever starts it may read.
    secret = name.removesuffix("_FILE")
    if sys.platform == "linux" and not about.st_mode & readable:
        raise CannotStart(
            Ending.SETTING,
            f"the container runs as user {USER}, who may not read {path} ({name}): "
            f"let it (chmod o+r)" + (f", or set {secret} instead" if secret != name else ""),
        )
    return str(path)


def host_network_hint() -> str | None:
    """What to know where a container's host network is not this machine's."""
    if sys.platform == "linux":
        return None
    return "outside Linux the container shares our ports only with host networking switched on in Docker Desktop"
