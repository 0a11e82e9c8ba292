"""Which broker a start uses, and why."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from fleet.start.ending import CannotStart, Ending
from process.settings import EMBEDDED_URL


class Broker(StrEnum):
    """Where the messages travel."""

    EXTERNAL = "external"
    """A broker that somebody else runs, at PULSAR_URL."""
    DIRECTORY = "directory"
    """`bin/pulsar standalone` of an unpacked Apache Pulsar, as our child."""
    DOCKER = "docker"
    """The official image, in a container of ours."""
    MAVEN = "maven"
    """`deploy/pulsar/run`: the broker's jars from Maven Central, as our child."""
    EMBEDDED = "embedded"
    """The memory broker: everything in one process, nothing survives it."""


ASKABLE = ("auto", Broker.DOCKER.value, Broker.MAVEN.value, Broker.EMBEDDED.value)
"""What --pulsar takes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The broker, why it was chosen in a few words, and its directory for DIRECTORY."""

    broker: Broker
    why: str
    home: Path | None = None


def choose(asked: str, pulsar_url: str | None, home: Path | None) -> Choice:
    """Decide. A word on the command line goes first; then PULSAR_URL; then a directory; then the memory broker."""
    if asked != "auto":
        return Choice(Broker(asked), f"--pulsar {asked}")
    if pulsar_url == EMBEDDED_URL:
        return Choice(Broker.EMBEDDED, f"PULSAR_URL is {EMBEDDED_URL}")
    if pulsar_url:
        return Choice(Broker.EXTERNAL, f"PULSAR_URL is {without_credentials(pulsar_url)}")
    if home:
        return Choice(Broker.DIRECTORY, f"Apache Pulsar is in {home}", home)
    return Choice(Broker.EMBEDDED, "neither PULSAR_URL nor an Apache Pulsar directory was found; nothing is durable")


def find_home(pulsar_home: Path | None, directory: Path) -> Path | None:
    """PULSAR_HOME, or else the last `apache-pulsar*` in `directory` that has bin/pulsar.

    Raises CannotStart when PULSAR_HOME is set and has none.
    """
    if pulsar_home:
        if not _has_program(pulsar_home):
            raise CannotStart(
                Ending.SETTING,
                f"PULSAR_HOME={pulsar_home} has no bin/pulsar: set it to an unpacked Apache Pulsar, or unset it",
            )
        return pulsar_home.resolve()
    found = sorted(path for path in directory.glob("apache-pulsar*") if _has_program(path))
    return found[-1].resolve() if found else None


def without_credentials(url: str) -> str:
    """`url` as it may be shown."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def endpoints(pulsar_url: str) -> list[tuple[str, int]]:
    """The (host, port) pairs of a service URL, which may name several hosts. Raises CannotStart when it is none."""
    default = None
    found: list[tuple[str, int]] = []
    try:
        parts = urlsplit(pulsar_url)
        default = {"pulsar": 6650, "pulsar+ssl": 6651, "http": 80, "https": 443}.get(parts.scheme)
        for place in parts.netloc.rpartition("@")[2].split(","):
            one = urlsplit(f"//{place}")
            if one.hostname:
                found.append((one.hostname, one.port or default or 0))
    except ValueError:
        found.clear()
    if default is None or not found:
        raise CannotStart(
            Ending.SETTING,
            f"PULSAR_URL={without_credentials(pulsar_url)} is no service URL: write pulsar://HOST:PORT"
            " or pulsar+ssl://HOST:PORT",
        )
    return found


def _has_program(directory: Path) -> bool:
    return (directory / "bin" / "pulsar").is_file()
