"""How nodes are kept available, shut off, and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from broker.pulsar.address import Address
from controller.manifests.naming import head, selector

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest, Place

HEALTH_PORT = 8083
"""The node's port of health and metrics; NODE_PORT's default."""
_SCHEME_PORTS = {"http": 80, "https": 443}
_API_SERVER_PORTS = (443, 6443, 8443)


def disruption_budget(model: AIModel) -> Manifest:
    """One node at a time; one that is not ready anyway must not keep a machine from being emptied."""
    return head(model, "policy/v1", "PodDisruptionBudget") | {
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(model)},
        }
    }


def network_policy(model: AIModel, place: Place) -> Manifest:
    """In: health and metrics. Out: names, broker, the cluster's API server, the provider or the model's hub, and what a
    URL in the AIModel's ``env`` names, such as a proxy or a collector of traces.

    By ports alone: a policy knows no host names, and what is outside a cluster is written differently for each network.
    """
    tcp = _addressed(place.pulsar_url) | set(_API_SERVER_PORTS)
    if model.spec.remote is not None:
        tcp.add(_port(model.spec.remote.api_url))
    for entry in model.spec.env:
        tcp |= _addressed(entry.get("value") or "")
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return head(model, "networking.k8s.io/v1", "NetworkPolicy") | {
        "spec": {
            "podSelector": {"matchLabels": selector(model)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": HEALTH_PORT, "protocol": "TCP"}]}],
            "egress": [{"ports": names}, {"ports": [{"port": port, "protocol": "TCP"} for port in sorted(tcp)]}],
        }
    }


def pod_monitor(model: AIModel) -> Manifest:
    """For the Prometheus operator."""
    return head(model, "monitoring.coreos.com/v1", "PodMonitor") | {
        "spec": {
            "selector": {"matchLabels": selector(model)},
            "podMetricsEndpoints": [{"port": "health", "path": "/metrics"}],
        }
    }


def _addressed(value: str) -> set[int]:
    """The ports of a setting that is a URL, or several of a broker's by commas; none of any other."""
    scheme = value.partition("://")[0]
    try:
        match scheme:
            case "pulsar" | "pulsar+ssl":
                return {port for _, port in Address(value).endpoints}
            case "http" | "https":
                return {_port(value)}
            case _:
                return set()
    except ValueError:
        return set()  # its node will say what is wrong with it


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _SCHEME_PORTS[parts.scheme]
