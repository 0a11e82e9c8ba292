"""One controller leads: whoever holds the Lease.

A holder renews well before it ends. Others take it when it has not changed for its whole length by their own clock, so
that clocks need not agree. One that cannot renew in time stops its work before another one may begin.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.cluster import ClusterError
from controller.kinds import LEASE
from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.cluster import Cluster

log = Log("controller")

RENEW_PART = 1 / 5
"""Of the Lease's length: how often a leader renews and another one looks."""
GIVE_UP_PART = 2 / 3
"""Of its length: how long a leader works on without having renewed."""


class Lease:
    """``me`` is fresh at every start. Pure but for what it asks the API server."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, me: str, lease_s: int, clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._me = me
        self._lease_s = lease_s
        self._clock = clock
        self._seen: tuple[Any, Any] | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self.held = False

    async def take(self) -> None:
        """Wait until this one leads."""
        said = ""
        while True:
            try:
                if await self.try_once():
                    self.held = True
                    log.info("This controller leads.", action="leads", me=self._me)
                    return
            except ClusterError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning(f"The Lease cannot be asked for: {said}", action="lease_unknown")
            await asyncio.sleep(self._lease_s * RENEW_PART)

    async def keep(self) -> None:
        """Renew until that fails for too long, or another one has it; then return."""
        while True:
            await asyncio.sleep(self._lease_s * RENEW_PART)
            try:
                async with asyncio.timeout(self._renewed_at + self._lease_s * GIVE_UP_PART - self._clock()):
                    if not await self.try_once():
                        break
            except (ClusterError, TimeoutError) as error:
                if self._clock() < self._renewed_at + self._lease_s * GIVE_UP_PART:
                    continue
                log.warning("The Lease could not be renewed in time.", action="lease_lost", why=str(error))
                break
        self.held = False
        log.warning("This controller leads no more.", action="leads_no_more", me=self._me)

    async def give_back(self) -> None:
        """Let another one have it at once."""
        if not self.held:
            return
        self.held = False
        try:
            found = await self._cluster.get(LEASE, self._namespace, self._name)
            if found is not None and found["spec"].get("holderIdentity") == self._me:
                found["spec"]["holderIdentity"] = ""
                await self._cluster.replace(LEASE, self._namespace, self._name, found)
        except ClusterError as error:
            log.debug("The Lease was not given back; it ends by itself.", action="lease_kept", why=str(error))

    async def try_once(self) -> bool:
        """Take or renew it, if it is ours to take."""
        began = self._clock()
        found = await self._cluster.get(LEASE, self._namespace, self._name)
        try:
            if found is None:
                await self._cluster.create(
                    LEASE,
                    self._namespace,
                    {
                        "apiVersion": LEASE.api_version,
                        "kind": LEASE.name,
                        "metadata": {"name": self._name, "namespace": self._namespace},
                        "spec": self._spec({}),
                    },
                )
            elif self._is_ours_to_take(found["spec"]):
                await self._cluster.replace(
                    LEASE, self._namespace, self._name, found | {"spec": self._spec(found["spec"])}
                )
            else:
                return False
        except ClusterError as error:
            if error.status == 409:  # another one was quicker
                return False
            raise
        self._renewed_at = began
        return True

    def _is_ours_to_take(self, spec: dict[str, Any]) -> bool:
        holder = spec.get("holderIdentity")
        if not holder or holder == self._me:
            return True
        state = holder, spec.get("renewTime")
        if state != self._seen:
            self._seen, self._seen_at = state, self._clock()
            return False
        return self._clock() - self._seen_at > (spec.get("leaseDurationSeconds") or self._lease_s)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self._me
        changes = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._me,
            "leaseDurationSeconds": self._lease_s,
            "renewTime": now,
            "acquireTime": before.get("acquireTime") if ours else now,
            "leaseTransitions": changes if ours or not before else changes + 1,
        }
