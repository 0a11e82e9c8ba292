"""The controller from start to end: stand by, lead, hand the lead on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from controller.broker_admin import BrokerAdmin
from controller.cluster import Cluster, ClusterError
from controller.lease import Lease
from controller.loop import work
from controller.metrics import ControllerMetrics
from controller.reconciler import Reconciler
from process.http import bind, health_server
from process.identity import new_incarnation
from process.lifecycle import GivenUp
from process.logging import Log
from process.tls import trusting

if TYPE_CHECKING:
    from controller.settings import ControllerSettings

log = Log("controller")

EXIT_NO_CLUSTER = 4


async def run(settings: ControllerSettings, stop: asyncio.Event) -> None:
    """Until ``stop`` is set. Raises :class:`process.lifecycle.PortInUse`, and GivenUp without a cluster."""
    metrics = ControllerMetrics()
    try:
        cluster = await Cluster.connect(settings.kubeconfig)
    except ClusterError as error:
        raise GivenUp(str(error), EXIT_NO_CLUSTER) from None
    lease = Lease(
        cluster,
        settings.lease_namespace,
        settings.lease_name,
        new_incarnation("controller"),
        settings.lease_s,
        time.monotonic,
    )
    metrics.leads.set_function(lambda: lease.held)
    admin = BrokerAdmin(
        settings.pulsar_admin_url, settings.topics, lambda: _token(settings), trusting(settings.pulsar_tls_trust_certs)
    )
    reconciler = Reconciler(cluster, admin, settings)

    def ready() -> tuple[bool, dict[str, Any]]:
        return True, {"ready": True, "leads": lease.held}  # who stands by is as ready as it will be

    try:
        listener = bind(settings.controller_host, settings.controller_port, "CONTROLLER_PORT")
        async with health_server(listener, metrics.registry, ready):
            log.info("The controller stands by.", action="listens", port=listener.getsockname()[1])
            leading = asyncio.create_task(_lead(lease, cluster, reconciler, settings, metrics), name="leading")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            try:
                await asyncio.wait((leading, stopping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                leading.cancel()
                results = await asyncio.gather(leading, stopping, return_exceptions=True)
            await lease.give_back()
            if isinstance(results[0], Exception):
                raise results[0]
    finally:
        await admin.aclose()
        await cluster.aclose()
    log.info("The controller has ended.", action="ended")


async def _lead(
    lease: Lease, cluster: Cluster, reconciler: Reconciler, settings: ControllerSettings, metrics: ControllerMetrics
) -> None:
    while True:
        await lease.take()
        working = asyncio.create_task(work(cluster, reconciler, settings.watch_namespace, metrics), name="work")
        keeping = asyncio.create_task(lease.keep(), name="lease")
        try:
            await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()  # it only ends by failing
        finally:
            working.cancel()
            keeping.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)


def _token(settings: ControllerSettings) -> str | None:
    if settings.pulsar_token_file is not None:
        return settings.pulsar_token_file.read_text().strip()
    return settings.pulsar_token.get_secret_value() if settings.pulsar_token else None
