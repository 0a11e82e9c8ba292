"""The whole plan of a start: the broker's waves, then the roles'."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.start import broker_waves
from fleet.start.broker_choice import Broker, Choice
from fleet.start.ports import Address
from fleet.start.role import Role, Wave
from fleet.start.settings import StartSettings
from process.settings import EMBEDDED_URL


@dataclass(frozen=True, slots=True)
class Roles:
    """Where the three roles of a start listen."""

    gateway: Address
    management: Address
    node: Address

    @classmethod
    def of(cls, settings: StartSettings) -> "Roles":
        """As the settings say."""
        return cls(
            Address("the gateway", settings.host, settings.port, "PORT", settings.ssl_certfile),
            Address(
                "management",
                settings.management_host,
                settings.management_port,
                "MANAGEMENT_PORT",
                settings.management_ssl_certfile,
            ),
            Address("the node", settings.node_host, settings.node_port, "NODE_PORT"),
        )

    @property
    def all(self) -> tuple[Address, ...]:
        """The three of them."""
        return (self.gateway, self.management, self.node)


def addresses(choice: Choice, settings: StartSettings) -> tuple[Address, ...]:
    """Every port that must be free."""
    broker = broker_waves.addresses(settings) if choice.broker in broker_waves.OURS else ()
    return (*broker, *Roles.of(settings).all)


def plan(choice: Choice, settings: StartSettings, env: dict[str, str], directory: Path) -> tuple[Wave, ...]:
    """What to start, in waves; `env` is the environment of every process. Raises CannotStart if a tool is missing."""
    # Lines come to us through a pipe, and go to whoever reads us, each behind its role's name.
    lines = "colour" if sys.stdout.isatty() else "text"
    own = {"LOG_FORMAT": lines, **env, "PYTHONUNBUFFERED": "1"}
    if choice.broker is Broker.EMBEDDED:
        own["PULSAR_URL"] = EMBEDDED_URL
        return ((_role("up", own, *Roles.of(settings).all),),)
    before = broker_waves.waves(choice, settings, env, directory)
    if before:
        own["PULSAR_URL"] = broker_waves.url(settings)
    at = Roles.of(settings)
    # Stopped from the end: the gateway while nodes still answer for it, management when no more events come.
    return (
        *before,
        (
            _role("management", own, at.management),
            replace(_role("node", own, at.node), may_leave=True),
            _role("gateway", own, at.gateway),
        ),
    )


def ready_urls(at: Iterable[Address]) -> tuple[str, ...]:
    """Where roles at these addresses say whether they are ready."""
    return tuple(f"{address.url}/readyz" for address in at)


def certificates(at: Iterable[Address]) -> tuple[Path, ...]:
    """What they show there."""
    return tuple(address.certificate for address in at if address.certificate)


def container_plan(roles: tuple[str, ...], env: dict[str, str]) -> tuple[Wave, ...]:
    """The roles of a container; nobody waits for them, for that is what the container's health check does."""
    return (tuple(Role(name, _argv(name), env) for name in roles),)


def _role(name: str, env: dict[str, str], *at: Address) -> Role:
    return Role(name, _argv(name), env, ready_urls(at), certificates(at))


def _argv(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "fleet", name)
