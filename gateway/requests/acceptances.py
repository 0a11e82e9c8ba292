"""Tells the ledger which requests this gateway took in: each of them owes it an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process.identity import now_ms
from wire.event import ACCEPTED_MAX, AcceptedData

if TYPE_CHECKING:
    from gateway.requests.record import GatewayRecorder
    from wire.request import Request

EVERY_S = 1.0


class Acceptances:
    """Gathers requests into few events. Those of the last second are lost with the process."""

    def __init__(self, gateway: str, recorder: GatewayRecorder, *, with_prompts: bool) -> None:
        """``with_prompts``: tell what clients sent, too."""
        self._gateway = gateway
        self._with_prompts = with_prompts
        self._recorder = recorder
        self._requests: list[str] = []
        self._since_ms = now_ms()
        self._told = 0

    def add(self, request: Request) -> None:
        """It is in the queue, or may be."""
        if self._with_prompts:
            self._recorder.prompt(request)
        self._requests.append(request.request_id)
        if len(self._requests) >= ACCEPTED_MAX:
            self.tell()

    async def run(self) -> None:
        """Tell them every second."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.tell()

    def tell(self) -> None:
        """Tell them now."""
        until_ms = now_ms()
        if self._requests:
            self._told += 1
            data = AcceptedData(
                gateway=self._gateway, since_ms=self._since_ms, until_ms=until_ms, requests=self._requests
            )
            self._recorder.gateway_event("gateway.accepted", f"accepted-{self._gateway}-{self._told}", data)
            self._requests = []
        self._since_ms = until_ms
