"""Kubernetes' events: what has changed about an AIModel, where `kubectl describe` shows it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.aimodel import API_VERSION, KIND
from controller.cluster import ClusterError
from controller.kinds import EVENT
from controller.manifests.naming import MANAGER
from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.aimodel import AIModel
    from controller.cluster import Cluster
    from controller.conditions import Condition

log = Log("controller")

MESSAGE_CHARS_MAX = 1024
"""Events of Kubernetes' newer API may have no more; the condition has the rest."""


async def tell_changes(
    cluster: Cluster, model: AIModel, found: Iterable[Condition], before: Iterable[dict[str, Any]]
) -> None:
    """An event for each condition with another truth or reason than before. They are a help, and may fail.

    What happens again is counted in its event: a provider that limits now and then would fill the cluster with them.
    """
    known = {each["type"]: (each["status"], each["reason"]) for each in before}
    for each in found:
        if known.get(each.type) != (each.status, each.reason):
            log.info(each.message, action="condition", aimodel=f"{model.namespace}/{model.name}", reason=each.reason)
            try:
                await _tell(cluster, model, each)
            except ClusterError as error:
                log.debug("An event was not written.", action="event_failed", why=str(error))


async def _tell(cluster: Cluster, model: AIModel, condition: Condition) -> None:
    event = _event(model, condition)
    before = await cluster.get(EVENT, model.namespace, event["metadata"]["name"])
    if before is not None:
        event |= {"firstTimestamp": before["firstTimestamp"], "count": before["count"] + 1}
    await cluster.apply(EVENT, event, manager=MANAGER)


def _event(model: AIModel, condition: Condition) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = f"{model.uid} {condition.type} {condition.reason}"
    name = f"{model.name}.{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    about = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": model.name,
        "namespace": model.namespace,
        "uid": model.uid,
    }
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": name, "namespace": model.namespace},
        "involvedObject": about,
        "type": "Warning" if condition.is_wrong else "Normal",
        "reason": condition.reason,
        "message": condition.message[:MESSAGE_CHARS_MAX],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
