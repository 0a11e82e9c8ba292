"""Who may do what at a Pulsar with authorization: the least that each role can do its work with. Pure.

Pulsar knows permissions of a namespace and of a topic, and no patterns of names. Gateways publish to every model, so
they get the namespace of requests; a node gets the two topics of its model. Lines have names that are fresh at every
start, so all roles share the namespace of links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from wire.topics import LEDGER, WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire.topics import Topics

GATEWAY = "workernode-gateway"
NODE = "workernode-node"
MANAGEMENT = "workernode-management"
CONTROLLER = "workernode-controller"
"""The roles: the subjects of their tokens."""
EARLIEST = {"ledgerId": -1, "entryId": -1}
"""Pulsar's name for the oldest message."""


@dataclass(frozen=True)
class Step:
    """One call of Pulsar's admin interface, which may be repeated. ``path`` stands below ``/admin/v2/``."""

    method: Literal["PUT", "POST"]
    path: str
    body: object
    command: str
    """The same for ``pulsar-admin``."""


def deployment(topics: Topics) -> Iterator[Step]:
    """What one deployment needs once, beside its tenant: namespaces, their permissions, the ledger's subscription."""
    # The results topic may have a full name, and with it a namespace, or even a tenant, that is set nowhere else.
    results, _, _ = topics.results.removeprefix("persistent://").rpartition("/")
    places: dict[str, list[tuple[str, tuple[str, ...]]]] = {
        f"{topics.tenant}/{topics.requests_namespace}": [(GATEWAY, ("produce",))],
        f"{topics.tenant}/{topics.links_namespace}": [
            (role, ("produce", "consume")) for role in (GATEWAY, NODE, MANAGEMENT)
        ],
        results: [(GATEWAY, ("produce",)), (NODE, ("produce",))],
    }
    if len(places) < 3:
        raise ValueError(
            "Set PULSAR_NAMESPACE_REQUESTS, PULSAR_NAMESPACE_LINKS and PULSAR_NAMESPACE_RESULTS to three namespaces: "
            "in one that they share a role would get more than it needs."
        )
    for namespace, grants in places.items():
        yield Step("PUT", f"namespaces/{namespace}", {}, f"namespaces create {namespace}")
        for role, actions in grants:
            yield Step(
                "POST",
                f"namespaces/{namespace}/permissions/{role}",
                actions,
                f"namespaces grant-permission {namespace} --role {role} --actions {','.join(actions)}",
            )
    yield from _kept(topics.results, LEDGER)
    yield _grant(topics.results, MANAGEMENT, "consume")


def model(topics: Topics, name: str) -> Iterator[Step]:
    """What one model needs before its first request: topics, subscriptions, and the permissions of its nodes.

    Raises :class:`wire.errors.InvalidName`.
    """
    yield from _kept(topics.requests(name), WORKERS)
    yield _grant(topics.requests(name), NODE, "consume")
    yield from _kept(topics.dead_letters(name), LEDGER)
    yield _grant(topics.dead_letters(name), NODE, "produce")


def _kept(topic: str, subscription: str) -> Iterator[Step]:
    path = _path(topic)
    yield Step("PUT", path, None, f"topics create {topic}")
    yield Step(
        "PUT",
        f"{path}/subscription/{subscription}",
        EARLIEST,
        f"topics create-subscription {topic} --subscription {subscription} --messageId earliest",
    )


def _grant(topic: str, role: str, action: str) -> Step:
    return Step(
        "POST",
        f"{_path(topic)}/permissions/{role}",
        [action],
        f"topics grant-permission {topic} --role {role} --actions {action}",
    )


def _path(topic: str) -> str:
    domain, _, name = topic.partition("://")
    return f"{domain}/{quote(name)}"
