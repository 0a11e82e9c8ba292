"""The controller's settings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from process import __version__
from process.host import check_host
from process.settings import EMBEDDED_URL, ObjectName, Settings


class ControllerSettings(Settings):
    """The broker as nodes and KEDA shall reach it, and what the nodes' Pods are made of."""

    pulsar_admin_url: str = Field(
        "",
        validate_default=True,
        description="the broker's admin address, which KEDA asks too: with the namespace in its host, as in "
        "http://pulsar.workernode:8080; with several brokers, that of the proxy",
    )
    watch_namespace: ObjectName = Field("", description="the one namespace whose AIModels count; all if empty")
    lease_namespace: ObjectName = Field(
        "workernode", description="the namespace of the Lease by which controllers elect one"
    )
    lease_name: ObjectName = Field(
        "workernode-controller", description="the name of that Lease; one for each set of AIModels"
    )
    lease_s: int = Field(
        15, ge=3, le=3600, description="seconds after which another one takes over from a leader that is gone"
    )
    resync_s: float = Field(
        30.0, gt=0, le=3600, description="seconds between two looks at an AIModel where nothing changed"
    )
    kubeconfig: Path | None = Field(None, description="a kubeconfig file; the Pod's own service account if empty")
    image: str = Field(f"workernode:{__version__}", description="the image of nodes whose AIModel names none")
    local_image: str = Field(
        f"workernode-local:{__version__}", description="the same for nodes with a local model, which need PyTorch"
    )
    image_pull_secret: ObjectName = Field(
        "", description="the Secret, in each AIModel's namespace, to pull images with"
    )
    node_token_secret: ObjectName = Field(
        "", description="the Secret, in each AIModel's namespace, whose 'token' nodes and KEDA show to the broker"
    )
    node_ca_configmap: ObjectName = Field(
        "",
        description="the ConfigMap, in each AIModel's namespace, whose 'ca.crt' nodes trust for the broker; KEDA too, "
        "where there is a NODE_TOKEN_SECRET",
    )
    controller_host: str = Field("127.0.0.1", description="where health and metrics listen")
    controller_port: int = Field(8084, ge=0, le=65535, description="the port of health and metrics")

    @field_validator("pulsar_url")
    @classmethod
    def _a_broker_that_nodes_can_reach(cls, url: str) -> str:
        if url == EMBEDDED_URL:
            raise ValueError("a broker in one process reaches no nodes in others: name a Pulsar broker")
        return url

    @field_validator("pulsar_admin_url")
    @classmethod
    def _usable_url(cls, url: str, info: ValidationInfo) -> str:
        if not url:
            raise ValueError("it is not set")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("it must begin with http:// or https://, name a host, and hold no password")
        return url.rstrip("/")

    @field_validator("controller_host")
    @classmethod
    def _usable_host(cls, host: str) -> str:
        return check_host(host)
