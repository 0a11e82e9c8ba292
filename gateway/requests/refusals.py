"""Tells the ledger how many requests were refused at the door: one event a minute, whoever knocks how often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process import __version__
from process.identity import now_ms
from wire.event import GatewayData

if TYPE_CHECKING:
    from gateway.metrics import GatewayMetrics
    from gateway.requests.record import GatewayRecorder

EVERY_S = 60.0


class Refusals:
    """What was refused since the last event, by HTTP status. Silent while there was nothing."""

    def __init__(self, gateway: str, metrics: GatewayMetrics, recorder: GatewayRecorder) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._recorder = recorder
        self._since_ms = now_ms()

    async def run(self) -> None:
        """Tell it every minute."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.tell()

    def tell(self) -> None:
        """Tell it now."""
        until_ms = now_ms()
        if refused := self._metrics.take_refusals():
            data = GatewayData(
                gateway=self._gateway,
                version=__version__,
                since_ms=self._since_ms,
                until_ms=until_ms,
                refused=refused,
            )
            self._recorder.gateway_event("gateway.refusals", f"refusals-{self._gateway}-{until_ms}", data)
        self._since_ms = until_ms
