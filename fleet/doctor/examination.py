"""The examination: settings first, then everything that can be looked at with those that are right."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.open import open_broker
from fleet.admin_settings import AdminSettings
from fleet.doctor.broker import check_broker
from fleet.doctor.broker_admin import check_admin
from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.doctor.keys import check_keys
from fleet.doctor.ports import check_ports
from fleet.doctor.report import as_json as in_json
from fleet.doctor.report import as_lines, is_well
from fleet.doctor.upstream import check_upstream
from fleet.start.ports import Address
from gateway.settings import GatewaySettings
from management.settings import ManagementSettings
from process.settings import EMBEDDED_URL, S, WrongSettings, load
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


def doctor(roles: tuple[str, ...], *, as_json: bool) -> int:
    """Look at everything that ``roles`` need, print what was found, and return the exit code: 1 if anything failed."""
    findings = asyncio.run(examine(roles))
    lines = [in_json(findings)] if as_json else as_lines(findings)
    # A terminal that knows no ✓ must not keep anybody from reading the rest.
    encoding = sys.stdout.encoding or "utf-8"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))
    return 0 if is_well(findings) else 1


async def examine(roles: tuple[str, ...], environ: Mapping[str, str] | None = None) -> list[Finding]:
    """All findings. What depends on a wrong setting is not looked at."""
    loaded = _load(roles, environ)
    found = list(loaded.findings)
    if loaded.doctor is not None:
        found += await _check_broker(loaded.doctor, loaded.node)
    if loaded.node is not None and loaded.node.node_type == "remote":
        found += await check_upstream(loaded.node)
    if loaded.gateway is not None:
        found += await check_keys(loaded.gateway)
    return found + await check_ports(loaded.addresses)


@dataclass
class _Loaded:
    """The settings that are right, and findings on all."""

    findings: list[Finding] = field(default_factory=list)
    doctor: AdminSettings | None = None
    gateway: GatewaySettings | None = None
    node: NodeSettings | None = None
    management: ManagementSettings | None = None

    @property
    def addresses(self) -> list[Address]:
        """Where the roles will listen."""
        addresses = []
        if self.gateway is not None:
            place = self.gateway.host, self.gateway.port
            addresses.append(Address("gateway", *place, "PORT", self.gateway.ssl_certfile))
        if self.management is not None:
            place = self.management.management_host, self.management.management_port
            certificate = self.management.management_ssl_certfile
            addresses.append(Address("management", *place, "MANAGEMENT_PORT", certificate))
        if self.node is not None:
            addresses.append(Address("node", self.node.node_host, self.node.node_port, "NODE_PORT"))
        return addresses


def _load(roles: tuple[str, ...], environ: Mapping[str, str] | None) -> _Loaded:
    loaded = _Loaded()
    told: set[str] = set()

    def read(role: str, settings: type[S]) -> S | None:
        try:
            right = load(settings, environ)
        except WrongSettings as wrong:
            # What the roles have in common is wrong for each of them, and told once.
            for problem in wrong.problems:
                if problem not in told:
                    told.add(problem)
                    loaded.findings.append(
                        fail(f"{role} settings", problem, "Correct it; docs/settings.md tells of every setting.")
                    )
            return None
        if role != "doctor":
            loaded.findings.append(ok(f"{role} settings", "Every setting can be used."))
        return right

    if "gateway" in roles:
        loaded.gateway = read("gateway", GatewaySettings)
    if "node" in roles:
        loaded.node = read("node", NodeSettings)
    if "management" in roles:
        loaded.management = read("management", ManagementSettings)
    loaded.doctor = read("doctor", AdminSettings)
    return loaded


async def _check_broker(settings: AdminSettings, node: NodeSettings | None) -> list[Finding]:
    if settings.pulsar_url == EMBEDDED_URL:
        return [ok("broker", "PULSAR_URL is memory: there is no broker to look at, and nothing survives the process.")]
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    try:
        found = await check_broker(broker, settings.topics, node.model if node is not None else None)
    finally:
        await broker.aclose()
    # To an address that was only guessed no token is shown.
    try:
        token = settings.admin_token if settings.pulsar_admin_url else None
        return found + await check_admin(settings.admin_url, token, settings.admin_trust)
    except OSError as error:
        remedy = "PULSAR_TOKEN_FILE and PULSAR_TLS_TRUST_CERTS name files that can be read."
        return [*found, warn("broker settings", f"The broker's admin interface was not asked: {error}.", remedy)]
