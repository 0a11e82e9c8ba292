"""The settings of an AIModel's nodes: docs/settings.md has each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.manifests.availability import HEALTH_PORT
from controller.manifests.volumes import CA_FILE, KEY_FILE, TOKEN_FILE

if TYPE_CHECKING:
    from controller.aimodel import AIModel, Spec
    from controller.manifests.place import Manifest, Place

LEAVE_S = 5
"""What remains of the grace period after the last answer, to flush and leave."""


def environment(model: AIModel, place: Place) -> list[Manifest]:
    """Named entries; those of the AIModel's own ``env`` come last, and in place of ours."""
    spec = model.spec
    values: dict[str, str | int | None] = {
        "NODE_TYPE": spec.type,
        "MODEL_NAME": spec.model,
        "MAX_PROCESS_NUM": spec.slots,
        "ENDPOINTS": ",".join(spec.endpoints) or None,
        "CONTEXT_LENGTH": spec.context_length,
        "RPM_MAX": spec.limits.requests_per_minute,
        "TPM_MAX": spec.limits.tokens_per_minute,
        "CONCURRENCY_MAX": spec.limits.concurrency,
        "NODE_HOST": "0.0.0.0",  # probes come to the Pod's address
        "NODE_PORT": HEALTH_PORT,
        "DRAIN_S": spec.grace_period_seconds - LEAVE_S,
        "AIMODEL_NAME": model.name,
        "AIMODEL_NAMESPACE": model.namespace,
        **_broker(place),
        **_engine(spec),
    }
    theirs = {entry["name"] for entry in spec.env}
    named: list[Manifest] = [
        {"name": name, "value": str(value).replace("$", "$$")}  # $(NAME) would be another variable's value
        for name, value in values.items()
        if value is not None and name not in theirs
    ]
    pod_name = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    return [*named, {"name": "NODE_NAME", "valueFrom": pod_name}, *map(dict, spec.env)]


def _broker(place: Place) -> dict[str, str | None]:
    topics = place.topics
    return {
        "PULSAR_URL": place.pulsar_url,
        "PULSAR_TOKEN_FILE": TOKEN_FILE if place.token_secret else None,
        "PULSAR_TLS_TRUST_CERTS": CA_FILE if place.ca_configmap else None,
        "PULSAR_TENANT": topics.tenant,
        "PULSAR_NAMESPACE_REQUESTS": topics.requests_namespace,
        "PULSAR_NAMESPACE_LINKS": topics.links_namespace,
        "PULSAR_NAMESPACE_RESULTS": topics.results_namespace,
        "RES_TOPIC_NAME": topics.results_name,
    }


def _engine(spec: Spec) -> dict[str, str | int | None]:
    if spec.remote is not None:
        return {
            "API_URL": spec.remote.api_url,
            "API_KEY_FILE": KEY_FILE,
            "UPSTREAM_MODEL": spec.remote.upstream_model,
            "DIALECT": spec.remote.dialect,
        }
    if spec.local is not None:
        return {
            "LOCAL_ENGINE": spec.local.engine,
            "MODEL_PATH": spec.local.source,
            "LOCAL_COMMAND": spec.local.command,
            "NUM_GPUS": spec.local.gpus or None,
        }
    return {"STATIC_ANSWER": spec.static.answer if spec.static else None}
