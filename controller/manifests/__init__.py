"""AIModel → the objects that make it true. Pure: the controller applies them, ``fleet render`` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.manifests.access import role, role_binding, service_account
from controller.manifests.availability import disruption_budget, network_policy, pod_monitor
from controller.manifests.deployment import deployment
from controller.manifests.place import Manifest, Place
from controller.manifests.scaling import scaled_object, trigger_authentication

if TYPE_CHECKING:
    from controller.aimodel import AIModel

__all__ = ["Manifest", "Place", "render"]


def render(model: AIModel, place: Place) -> list[Manifest]:
    """In the order in which they are applied: who the nodes are and what they may, the nodes, who scales them."""
    found = [
        service_account(model, place),
        role(model),
        role_binding(model),
        network_policy(model, place),
        disruption_budget(model),
        deployment(model, place),
    ]
    if place.keda:
        if place.token_secret:
            found.append(trigger_authentication(model, place))
        found.append(scaled_object(model, place))
    if place.pod_monitors:
        found.append(pod_monitor(model))
    return found
