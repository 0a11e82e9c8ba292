"""What one process of a gateway that has several knows of the others."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.processes.channel import AllFigures, AllReady, Ask, AskAll, Channel, Enter, Entered, Figures, Leave, Ready
from gateway.processes.figures import Family, collected, rendered

if TYPE_CHECKING:
    import socket

    from prometheus_client import CollectorRegistry

FIGURES_WAIT_S = 3.0
ENTER_WAIT_S = 1.0


class Sibling:
    """This process among the others, which it knows through the first one alone."""

    def __init__(self, listener: socket.socket, channel: Channel, *, is_late: bool) -> None:
        self.listener = listener
        """The port of all."""
        self.is_late = is_late
        """Whether others serve already, so that this one must not take a connection before it is ready."""
        self.all_ready = False
        """Whether all processes were ready at once, which is when the gateway is."""
        self.registry: CollectorRegistry | None = None
        self._channel = channel
        self._one_scrape = asyncio.Lock()
        self._all_figures: asyncio.Future[list[Family]] | None = None
        self._entering: deque[tuple[str, asyncio.Future[bool]]] = deque()

    def tell_ready(self) -> None:
        """Requests can be taken."""
        self._channel.say(Ready())

    async def figures(self) -> bytes:
        """What all processes have counted, for Prometheus. Raises TimeoutError."""
        async with self._one_scrape, asyncio.timeout(FIGURES_WAIT_S):
            self._all_figures = asyncio.get_running_loop().create_future()
            self._channel.say(AskAll())
            return rendered(await self._all_figures)

    async def enter(self, name: str, concurrent_max: int) -> bool | None:
        """See :class:`gateway.keys.permits.Places`."""
        entered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entering.append((name, entered))
        self._channel.say(Enter(name, concurrent_max))
        try:
            async with asyncio.timeout(ENTER_WAIT_S):
                return await asyncio.shield(entered)
        except BaseException as error:
            if not entered.done():
                entered.cancel()
            elif entered.result():
                self.leave(name)
            if isinstance(error, TimeoutError):
                return None  # a limit that cannot be counted stops nobody
            raise

    def leave(self, name: str) -> None:
        """See :class:`gateway.keys.permits.Places`."""
        self._channel.say(Leave(name))

    async def listen(self) -> None:
        """Hear the first process, until it ends."""
        while (word := await self._channel.hear()) is not None:
            match word:
                case AllReady():
                    self.all_ready = True
                case Ask():
                    self._channel.say(Figures(collected(self.registry) if self.registry is not None else []))
                case Entered():
                    name, entered = self._entering.popleft()
                    if not entered.cancelled():
                        entered.set_result(word.may)
                    elif word.may:
                        self.leave(name)  # who asked has gone meanwhile
                case AllFigures():
                    if self._all_figures is not None and not self._all_figures.done():
                        self._all_figures.set_result(word.families)
