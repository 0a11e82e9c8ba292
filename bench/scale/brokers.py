"""A cluster of several brokers: which of a fleet's topics each would serve.

A broker owns bundles of a namespace, and a topic's bundle is decided by its name alone. So one broker can tell how the
topics of a large fleet would lie, without the others: it is asked for the bundle of each, and bundles are dealt out to
brokers in turns, as a cluster does that has weighed nothing yet.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from bench.scale.record import Row, told
from process.identity import new_incarnation
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

NAMESPACE = "bench-brokers"


class Dealt(msgspec.Struct, frozen=True):
    """Topics of one kind: how many there are, and how many of them the fullest of the brokers has."""

    what: str
    topics: int
    bundles: int
    """Of the namespace, how many have at least one of them."""
    fullest: int


class Brokers(msgspec.Struct, frozen=True):
    """How a fleet's topics lie over the bundles of one namespace and the brokers of a cluster."""

    brokers: int
    bundles: int
    dealt: list[Dealt]


def measure(fleet: FleetProcesses, *, brokers: int, bundles: int, models: list[int], nodes: int) -> Brokers:
    """Ask a broker for the bundles of the topics of so many models (each number by itself) and nodes."""
    broker = fleet.broker()
    _request(broker, f"/admin/v2/namespaces/public/{NAMESPACE}", {"bundles": {"numBundles": bundles}})
    topics = Topics(requests_namespace=NAMESPACE, links_namespace=NAMESPACE, results_namespace=NAMESPACE)
    dealt = [
        _dealt(broker, f"requests of {count:,} models", (topics.requests(f"model-{n}") for n in range(count)), brokers)
        for count in models
    ]
    control = (topics.control(new_incarnation("node")) for _ in range(nodes))
    dealt.append(_dealt(broker, f"control of {nodes:,} nodes", control, brokers))
    return Brokers(brokers, bundles, dealt)


def _dealt(broker: Process, what: str, topics: Iterable[str], brokers: int) -> Dealt:
    found = Counter(_bundle(broker, topic) for topic in topics)
    served = Counter[int]()
    # A bundle gets its broker when the first of its topics is asked for.
    for number, count in enumerate(found.values()):
        served[number % brokers] += count
    return Dealt(what, found.total(), len(found), max(served.values()))


def _bundle(broker: Process, topic: str) -> str:
    kind, _, name = topic.partition("://")
    return _request(broker, f"/lookup/v2/topic/{kind}/{name}/bundle").decode()


def _request(broker: Process, path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        broker.url + path, data, {"Content-Type": "application/json"}, method="GET" if data is None else "PUT"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: bytes = answer.read()
    return found


def rows(found: Brokers) -> list[Row]:
    """For people."""
    even = 100 / found.brokers
    return [
        told(
            f"{each.what}, on {found.brokers} brokers by {found.bundles} bundles: on the fullest (even: {even:.0f} %)",
            100 * each.fullest / each.topics,
            "%",
            0,
        )
        for each in found.dealt
    ]
