"""This node's entry in the status of its AIModel: what presence says, for whoever looks at the cluster.

Each node applies its own entry under a field manager of its own, so that nodes never stand in one another's way. The
work does not depend on it: an API server that is away, slow or forbids it is told of in the log and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from process.cluster import AIMODELS, APPLY, ClusterError, Retries
from process.logging import Log

if TYPE_CHECKING:
    from process.cluster import Cluster
    from wire.presence import NodeState, Presence
    from workernode.heartbeat import Heartbeat

log = Log("node")

APPLY_PAUSE_S = 2.0
"""Between two applications of one node at least: what changes more often is told as it is then."""
APPLY_EVERY_S = 300.0
"""Without a change: who reads ``lastHeartbeat`` sees which nodes have died without a word. As seldom as a kubelet tells
its node's status: among 200 nodes of one AIModel an entry takes the API server 0.16 s of a core, and etcd 110 KB."""
LEAVE_S = 2.0
"""How long a node that leaves tries to take its entry along."""
MESSAGE_CHARS_MAX = 1024
MANAGER_CHARS_MAX = 128

STATES: dict[NodeState, str] = {
    "starting": "Loading",
    "ready": "Ready",
    "rate_limited": "RateLimited",
    "quota_exhausted": "QuotaExhausted",
    "authentication_failed": "AuthenticationFailed",
    "misconfigured": "Misconfigured",
    "unreachable": "Unreachable",
    "paused": "Paused",
    "draining": "Draining",
    "stopped": "Draining",
}
"""What presence says, in the words of deploy/k8s/crd.yaml."""
_REASONS = {
    0: "The cluster's API server cannot be reached",
    401: "The cluster's API server does not know this node's service account",
    403: "This node's service account may not apply the AIModel's status",
    404: "There is no such AIModel",
    409: "The cluster's API server had no turn for this node's entry",
    422: "The cluster's API server does not take this node's entry",
}


class AIModelEntry:
    """Keeps one entry true. :meth:`run` applies it until cancelled, :meth:`aclose` takes it away."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, node: str, heartbeat: Heartbeat) -> None:
        self._cluster = cluster
        self._object = {"apiVersion": "models.workernode.io/v1alpha1", "kind": "AIModel", "metadata": {"name": name}}
        self._path = f"{AIMODELS.format(namespace=namespace)}/{name}/status"
        self._shown = f"{namespace}/{name}"
        self._node = node
        self._query = {"fieldManager": manager(node), "force": "true"}
        self._heartbeat = heartbeat
        self._changed = asyncio.Event()
        self._retries = Retries()
        self._said = ""
        heartbeat.on_change = self._changed.set

    def __repr__(self) -> str:
        return f"<AIModelEntry {self._node} of {self._shown}>"

    async def run(self) -> None:
        """Apply it at every change, and now and then without one."""
        while True:
            self._changed.clear()
            pause_s = await self._try()
            if pause_s is not None:
                await asyncio.sleep(pause_s)
                continue
            await asyncio.sleep(APPLY_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(APPLY_EVERY_S - APPLY_PAUSE_S):
                    await self._changed.wait()

    async def aclose(self) -> None:
        """Take the entry away, if the API server lets us within :data:`LEAVE_S`."""
        self._heartbeat.on_change = None
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._apply([])
        except (ClusterError, TimeoutError) as error:
            log.debug("The entry in the AIModel's status stays behind.", action="aimodel_entry_left", why=str(error))
        await self._cluster.aclose()

    async def _try(self) -> float | None:
        """Apply the entry as it is now; None, or after how many seconds to try again."""
        try:
            await self._apply([entry(self._heartbeat.presence(), self._node)])
        except ClusterError as error:
            self._tell(error)
            return max(APPLY_PAUSE_S, self._retries.failed(error.retry_after_s))
        self._retries.worked()
        if self._said:
            log.info("The AIModel's status shows this node again.", action="aimodel_status_told", aimodel=self._shown)
            self._said = ""
        return None

    async def _apply(self, entries: list[dict[str, Any]]) -> None:
        body = {**self._object, "status": {"nodes": entries}}
        await self._cluster.ask("PATCH", self._path, query=self._query, body=body, content_type=APPLY)

    def _tell(self, error: ClusterError) -> None:
        """Each new reason once: it may last for hours, and the work goes on."""
        reason = _REASONS.get(error.status, "The cluster's API server refuses this node's entry")
        if reason != self._said:
            self._said = reason
            log.warning(
                f"{reason}: the AIModel's status does not show how this node is. The node goes on, and tries again.",
                action="aimodel_status_untold",
                aimodel=self._shown,
                status=error.status or None,
                why=str(error),
            )


def entry(presence: Presence, node: str) -> dict[str, Any]:
    """What one node says of itself, as deploy/k8s/crd.yaml has it."""
    said: dict[str, Any] = {
        "name": node,
        "state": STATES[presence.state],
        "since": _time(presence.since_ms or presence.started_ms),
        "lastHeartbeat": _time(presence.sent_ms),
        "slots": presence.slots,
        "busy": presence.busy,
        # Told when there is nothing to tell, too: whoever else has written into it shall not keep it.
        "message": (presence.sentence or "")[:MESSAGE_CHARS_MAX],
    }
    if presence.until_ms is not None:
        said["until"] = _time(presence.until_ms)
    return said


def manager(node: str) -> str:
    """The field manager of a node: it is its name's alone, so that a restarted container takes its entry over."""
    name = f"workernode-node-{node}"
    if len(name) > MANAGER_CHARS_MAX:
        digest = hashlib.sha256(node.encode()).hexdigest()
        name = f"{name[: MANAGER_CHARS_MAX - len(digest) - 1]}-{digest}"
    return name


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
