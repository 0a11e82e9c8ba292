"""Our own arms: the upstream without anything in between, ``fleet up``, and separate roles on a Pulsar."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING

from bench import machine
from bench.arm import DIRECT, EMBEDDED, PULSAR, Arm
from bench.fleet_processes import wait_for_model
from bench.process import NotReady
from process import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

NOTED_SETTINGS = (
    "journalSyncData",
    "managedLedgerDefaultWriteQuorum",
    "managedLedgerDefaultAckQuorum",
    "managedLedgerNewEntriesCheckDelayInMillis",
    "dispatcherMaxRoundRobinBatchSize",
    "dispatcherDispatchMessagesInSubscriptionThread",
    "numIOThreads",
    "numAddWorkerThreads",
)


def direct(fleet: FleetProcesses) -> Arm:
    """The upstream itself: what it and the load generator alone take."""
    return Arm(DIRECT, fleet.api_url.removesuffix("/v1"), "bench/programs/upstream")


def embedded(fleet: FleetProcesses) -> Arm:
    """Everything in one process, on the embedded broker, which keeps nothing."""
    process = fleet.embedded()
    wait_for_model(process)
    return Arm(EMBEDDED, process.url, __version__, [process])


def pulsar(fleet: FleetProcesses) -> Arm:
    """Gateway, one remote node and management, and the broker that was started first. Requests wait on a synced disk.

    Raises :class:`bench.process.NotReady` also if the broker does not sync, or keeps requests in memory only.
    """
    broker = fleet.broker()
    settings = effective(fleet.broker_data / "standalone.conf")
    if settings.get("journalSyncData") != "true":
        raise NotReady("The broker's journal is not synced (journalSyncData): its figures would not be comparable.")
    management, gateway, node = fleet.management(), fleet.gateway(), fleet.node("remote")
    wait_for_model(gateway)
    notes = {name: settings[name] for name in NOTED_SETTINGS if name in settings}
    notes["request topic"] = request_topic(broker)
    version = f"{__version__}, Pulsar {machine.this_machine().pulsar}"
    return Arm(PULSAR, gateway.url, version, [gateway, node, broker, management], notes=notes)


def effective(conf: Path) -> dict[str, str]:
    """A broker's settings by name: the last word counts."""
    lines = re.findall(r"^([A-Za-z]\w*)=(.*)$", conf.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: value.strip() for name, value in lines}


def request_topic(broker: Process) -> str:
    """The persistent topic on which requests wait for nodes. Raises :class:`bench.process.NotReady` without one."""
    with urllib.request.urlopen(f"{broker.url}/admin/v2/persistent/public/default", timeout=10) as answer:
        topics: list[str] = json.load(answer)
    for topic in topics:
        if "/requests." in topic and topic.startswith("persistent://"):
            return topic
    raise NotReady(f"The broker has no persistent topic of requests, only {', '.join(topics) or 'none'}.")
