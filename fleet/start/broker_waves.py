"""The processes of a broker that we start ourselves."""

from pathlib import Path

from fleet.start import docker, java
from fleet.start.broker_choice import Broker, Choice
from fleet.start.broker_data import data_directory, hold, require_no_spaces
from fleet.start.ending import Ending
from fleet.start.ports import Address
from fleet.start.pulsar_conf import ours, write_conf
from fleet.start.role import Role, Wave
from fleet.start.settings import StartSettings

IMAGE = "apachepulsar/pulsar:4.2.4"
LOOPBACK = "127.0.0.1"
MEMORY = "-Xms256m -Xmx1g -XX:MaxDirectMemorySize=1g"
"""PULSAR_MEM, unless it is set: the distribution's own 2 GB of heap are much for a first look."""
FETCH_WAIT_S = 900.0
"""The first run of deploy/pulsar/run downloads the broker before it starts it."""
OURS = (Broker.DIRECTORY, Broker.DOCKER, Broker.MAVEN)
"""The brokers that run as children of ours, on PULSAR_PORT and PULSAR_ADMIN_PORT."""


def url(settings: StartSettings) -> str:
    """The service URL of a broker that we start."""
    return f"pulsar://{LOOPBACK}:{settings.pulsar_port}"


def addresses(settings: StartSettings) -> tuple[Address, ...]:
    """Where a broker that we start will listen."""
    return (
        Address("the broker", LOOPBACK, settings.pulsar_port, "PULSAR_PORT"),
        Address("the broker's admin interface", LOOPBACK, settings.pulsar_admin_port, "PULSAR_ADMIN_PORT"),
    )


def waves(choice: Choice, settings: StartSettings, env: dict[str, str], directory: Path) -> tuple[Wave, ...]:
    """What to start before the roles: nothing for a broker that is not ours. Raises CannotStart for a missing tool."""
    if choice.broker is Broker.DOCKER:
        return _docker(settings, env, directory)
    if choice.broker is Broker.MAVEN:
        return _maven(settings, env, directory)
    if choice.home:
        return _directory(choice.home, settings, env, directory)
    return ()


def _service(
    settings: StartSettings,
    argv: tuple[str, ...],
    env: dict[str, str],
    data: Path,
    *,
    wait_s: float | None = None,
    undo: tuple[str, ...] = (),
) -> Wave:
    admin = f"http://{LOOPBACK}:{settings.pulsar_admin_port}/admin/v2"
    # The first says that the broker serves; at its first start ever, the namespace comes a little later.
    ready = (f"{admin}/brokers/ready", f"{admin}/namespaces/public/default")
    log = data / "broker.log"
    return (Role("pulsar", argv, env, ready, wait_s=wait_s, blame=Ending.BROKER, log=log, undo=undo),)


def _listening(settings: StartSettings, bind: str) -> dict[str, str]:
    return {
        "bindAddress": bind,
        "advertisedAddress": LOOPBACK,
        "brokerServicePort": str(settings.pulsar_port),
        "webServicePort": str(settings.pulsar_admin_port),
    }


def _directory(home: Path, settings: StartSettings, env: dict[str, str], directory: Path) -> tuple[Wave, ...]:
    java.require_java(env)
    require_no_spaces("PULSAR_HOME", home)
    data = data_directory(settings.pulsar_data, directory, env)
    hold(data)
    conf = write_conf(home, data, {**ours(directory), **_listening(settings, LOOPBACK)})
    argv = (
        *(str(home / "bin" / "pulsar"), "standalone", "-nfw", "-nss"),
        *("--metadata-dir", str(data / "metadata"), "--bookkeeper-dir", str(data / "bookkeeper")),
    )
    own = {"PULSAR_STANDALONE_CONF": str(conf), "PULSAR_LOG_DIR": str(data / "logs")}
    return (_service(settings, argv, {"PULSAR_MEM": MEMORY, "PULSAR_LOG_LEVEL": "warn", **env, **own}, data),)


def _docker(settings: StartSettings, env: dict[str, str], directory: Path) -> tuple[Wave, ...]:
    docker.require_daemon(env)
    name = docker.container_name("pulsar")
    data = data_directory(settings.pulsar_data, directory, env)
    hold(data)
    # Inside, it listens on the same port as outside: a broker tells its clients the port they shall come back to.
    conf = {**ours(directory), **_listening(settings, "0.0.0.0")}
    argv = (
        *("docker", "run", "--rm", "--name", name, "--label", docker.LABEL),
        # What waits outlives the container. A volume has the image's own user as its owner; a directory would not.
        *("--volume", f"{docker.volume_name(data)}:/pulsar/data"),
        *(part for at in addresses(settings) for part in ("--publish", f"{at.host}:{at.port}:{at.port}")),
        *(part for key, value in conf.items() for part in ("--env", f"PULSAR_PREFIX_{key}={value}")),
        *("--env", f"PULSAR_MEM={env.get('PULSAR_MEM', MEMORY)}", "--env", "PULSAR_LOG_LEVEL=warn"),
        *(IMAGE, "bash", "-c"),
        "bin/apply-config-from-env.py conf/standalone.conf && exec bin/pulsar standalone -nfw -nss",
    )
    service = _service(settings, argv, env, data, undo=docker.remove(name))
    if docker.has_image(IMAGE, env):
        return (service,)
    # Fetching the image may take minutes and is no part of the broker's own start.
    pull = Role("pulsar", ("docker", "pull", "--quiet", IMAGE), env, once=True, blame=Ending.BROKER)
    return ((pull,), service)


def _maven(settings: StartSettings, env: dict[str, str], directory: Path) -> tuple[Wave, ...]:
    java.require_java(env)
    java.require_maven(env)  # needed once, but an unclear failure after minutes would cost more than this look
    program = str(directory / "deploy" / "pulsar" / "run")
    data = data_directory(settings.pulsar_data, directory, env)
    hold(data)
    own = {
        "PULSAR_PORT": str(settings.pulsar_port),
        "PULSAR_ADMIN_PORT": str(settings.pulsar_admin_port),
        "PULSAR_DATA": str(data),
    }
    return (_service(settings, (program,), {**env, **own}, data, wait_s=FETCH_WAIT_S),)
