"""The work of the controller that leads: hear, queue, look."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from controller.cluster import ClusterError
from controller.kinds import AIMODEL, MANAGED
from controller.manifests.naming import MANAGED as MANAGED_LABELS
from controller.manifests.naming import MODEL_LABEL
from controller.observed import NodeEntry
from controller.reconciler import NotYet
from controller.watching import watch
from controller.work_queue import WorkQueue
from process.logging import Log

if TYPE_CHECKING:
    from controller.cluster import Cluster
    from controller.manifests import Manifest
    from controller.metrics import ControllerMetrics
    from controller.reconciler import Key, Reconciler

log = Log("controller")

WORKERS = 4
"""AIModels that are looked at side by side."""


async def work(cluster: Cluster, reconciler: Reconciler, namespace: str, metrics: ControllerMetrics) -> None:
    """Until cancelled."""
    queue: WorkQueue[Key] = WorkQueue()
    news = News()
    metrics.queued.set_function(lambda: len(queue))

    def hear_model(resource: Manifest) -> None:
        key = resource["metadata"]["namespace"], resource["metadata"]["name"]
        if news.is_new(key, resource):
            queue.add(key)

    def hear_owned(resource: Manifest) -> None:
        metadata = resource["metadata"]
        name = (metadata.get("labels") or {}).get(MODEL_LABEL)
        if name and not news.is_pulse((metadata["namespace"], name), resource):
            queue.add((metadata["namespace"], name))

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(cluster, AIMODEL, namespace, None, hear_model), name="AIModels")
            for kind in MANAGED:
                tasks.create_task(watch(cluster, kind, namespace, MANAGED_LABELS, hear_owned), name=kind.plural)
            for number in range(WORKERS):
                tasks.create_task(_worker(queue, reconciler, metrics, news), name=f"worker {number}")
    finally:
        queue.close()


class News:
    """Tells what others have changed about an AIModel from what the controller itself wrote into its status: a look
    that followed each of its own would read another backlog, write that, and be followed by the next. And what is
    changed about its objects from what KEDA writes at each poll."""

    def __init__(self) -> None:
        self._known: dict[Key, Any] = {}
        self._scaled: dict[Key, tuple[Any, Any]] = {}

    def is_new(self, key: Key, resource: Manifest) -> bool:
        """Whether there is a reason to look."""
        metadata, nodes = resource["metadata"], (resource.get("status") or {}).get("nodes") or []
        told = (
            metadata.get("uid"),
            metadata.get("generation"),
            metadata.get("deletionTimestamp"),
            metadata.get("finalizers"),
            [NodeEntry.of(entry) for entry in nodes],
        )
        is_new = self._known.get(key) != told
        self._known[key] = told
        return is_new

    def is_pulse(self, key: Key, owned: Manifest) -> bool:
        """Whether nothing is new about a ScaledObject but when its queue was last not empty: while requests run, KEDA
        writes that every few seconds."""
        status = owned.get("status") or {}
        if "lastActiveTime" not in status:
            return False
        active, rest = status["lastActiveTime"], {**status, "lastActiveTime": None}
        of_version = {"resourceVersion", "managedFields"}
        metadata = {name: value for name, value in owned["metadata"].items() if name not in of_version}
        told = {**owned, "metadata": metadata, "status": rest}
        known, self._scaled[key] = self._scaled.get(key), (told, active)
        return known is not None and known[0] == told and known[1] != active

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._known.pop(key, None)
        self._scaled.pop(key, None)


def _tell(error: Exception, key: Key) -> None:
    sentence, fields = "An AIModel could not be looked at; that is tried again.", {"aimodel": "/".join(key)}
    if not isinstance(error, ClusterError):
        log.error(sentence, error=error, action="look_failed", **fields)
    elif error.status == 409:  # somebody else wrote at the same time
        log.debug(sentence, action="look_failed", why=str(error), **fields)
    else:
        log.warning(sentence, action="look_failed", why=str(error), **fields)


async def _worker(queue: WorkQueue[Key], reconciler: Reconciler, metrics: ControllerMetrics, news: News) -> None:
    while True:
        key = await queue.take()
        began = time.monotonic()
        try:
            again_s = await reconciler.look(key)
        except NotYet:
            metrics.looks["done"].inc()
            queue.failed(key)
            continue
        except Exception as error:
            # One AIModel that cannot be dealt with must not keep the others waiting.
            _tell(error, key)
            metrics.looks["failed"].inc()
            queue.failed(key)
            continue
        metrics.look_seconds.observe(time.monotonic() - began)
        metrics.looks["done"].inc()
        queue.done(key)
        if again_s is None:
            news.forget(key)
        else:
            queue.add_in(key, again_s)
