"""The channels of one process: which broker serves a topic, and its connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from _pulsar import Result

from broker.pulsar.channel import Channel
from broker.pulsar.failure import PulsarFailure
from broker.pulsar.frames import refused

if TYPE_CHECKING:
    from broker.pulsar.address import Address
    from broker.pulsar.credential import Credential
    from broker.pulsar.limits import PulsarLimits

_REDIRECTS_MAX = 20
_REDIRECT, _CONNECT = 0, 1


class Route(NamedTuple):
    """A way to a broker."""

    host: str
    port: int
    proxied_to: str | None = None
    """The broker's ``host:port`` where what is connected to is a proxy."""
    gathers: bool = False
    """Whether it is one whose answers may wait for one another."""


class Channels:
    """Opened when they are first needed, and shared by all topics of a broker."""

    def __init__(self, address: Address, credential: Credential, limits: PulsarLimits) -> None:
        self._address = address
        self._credential = credential
        self._limits = limits
        self._channels: dict[Route, Channel] = {}
        self._opening: defaultdict[Route, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def greet(self, route: Route, timeout_s: float) -> Channel:
        """A new channel that the broker has let in, for the caller to close.

        Raises :class:`TimeoutError`, :class:`OSError`, :class:`EOFError`, and :class:`PulsarFailure` if it refuses.
        """
        tls = self._credential.tls() if self._address.tls else None
        channel = Channel(self._limits, self._credential.token, proxied_to=route.proxied_to, gathers=route.gathers)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().create_connection(lambda: channel, route.host, route.port, ssl=tls)
                await channel.welcome()
        except BaseException:
            channel.abort()
            raise
        return channel

    async def channel(self, topic: str, *, gathers: bool) -> Channel:
        """A channel to the broker that serves the topic now; raises :class:`PulsarFailure`."""
        service = asked = await self._service()
        authoritative = False
        for _ in range(_REDIRECTS_MAX):
            answer = await (await self._to(asked)).look_up(topic, authoritative=authoritative)
            verdict = answer.number(3)
            if verdict not in (_REDIRECT, _CONNECT):
                raise refused(answer.number(6), answer.text(7))
            asked = self._route(answer.text(2 if self._address.tls else 1), service if answer.number(8) else None)
            if verdict == _CONNECT:
                return await self._to(asked._replace(gathers=gathers))
            authoritative = bool(answer.number(5))
        raise PulsarFailure(Result.LookupError, "the brokers send one another round in circles")

    async def check(self) -> None:
        """Ask each channel for an answer, and end those that give none in time: others will be opened."""
        await asyncio.gather(*(self._check(channel) for channel in self._channels.values() if not channel.lost))

    async def aclose(self) -> None:
        """Write what waits, and close all."""
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.aclose() for channel in channels))

    async def _service(self) -> Route:
        """The way to the address that was given: one that is open, else the first host that lets us in."""
        routes = [Route(host, port) for host, port in self._address.endpoints]
        for route in routes:
            if route in self._channels and not self._channels[route].lost:
                return route
        for route in routes[:-1]:
            try:
                await self._to(route)
            except PulsarFailure:
                continue
            return route
        return routes[-1]

    async def _to(self, route: Route) -> Channel:
        async with self._opening[route]:
            channel = self._channels.get(route)
            if channel is None or channel.lost:
                channel = self._channels[route] = await self._open(route)
            return channel

    async def _open(self, route: Route) -> Channel:
        try:
            return await self.greet(route, self._limits.connect_timeout_s)
        except TimeoutError:
            raise PulsarFailure(Result.Timeout) from None
        except (OSError, EOFError, ssl.SSLError) as error:
            raise PulsarFailure(Result.ConnectError, str(error)) from None

    def _route(self, url: str, through: Route | None) -> Route:
        parts = urlsplit(url)
        if not parts.hostname or not parts.port:
            raise PulsarFailure(Result.LookupError, "the broker of the topic has no address of this kind")
        if through is None or through == (parts.hostname, parts.port, None, False):
            return Route(parts.hostname, parts.port)
        return through._replace(proxied_to=f"{parts.hostname}:{parts.port}")

    async def _check(self, channel: Channel) -> None:
        # With a second chance: this process itself may have stood still for so long.
        for _ in range(2):
            with contextlib.suppress(PulsarFailure):
                await channel.ping()
                return
        channel.abort()
