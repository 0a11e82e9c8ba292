"""Where an AIModel's objects shall be: what the cluster offers, and what the controller's settings say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.settings import ControllerSettings
    from wire.topics import Topics

Manifest = dict[str, Any]
"""One object as it is applied."""


@dataclass(frozen=True)
class Place:
    """All that rendering needs beside the AIModel.

    ``keda`` and ``pod_monitors``: whether the cluster knows KEDA's and Prometheus' resources. ``ceiling``: the number
    of nodes above which KEDA must not go now, though the AIModel would allow more.
    """

    pulsar_url: str
    admin_url: str
    topics: Topics
    image: str
    local_image: str
    image_pull_secret: str = ""
    token_secret: str = ""
    ca_configmap: str = ""
    keda: bool = True
    pod_monitors: bool = False
    ceiling: int | None = None

    @classmethod
    def of(cls, settings: ControllerSettings, *, keda: bool, pod_monitors: bool, ceiling: int | None = None) -> Place:
        """The place that the settings describe, in a cluster that offers so much."""
        return cls(
            settings.pulsar_url,
            settings.pulsar_admin_url,
            settings.topics,
            settings.image,
            settings.local_image,
            settings.image_pull_secret,
            settings.node_token_secret,
            settings.node_ca_configmap,
            keda,
            pod_monitors,
            ceiling,
        )
