"""The channels of one process: which broker serves a topic, and its connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from broker.pulsar.channel import Channel
from broker.pulsar.failure import TRY_AGAIN, PulsarFailure, Result
from broker.pulsar.frames import refused

if TYPE_CHECKING:
    from broker.pulsar.address import Address
    from broker.pulsar.credential import Credential
    from broker.pulsar.limits import PulsarLimits

_NEXT_ADDRESS_S = 0.25
"""One address of a host has so long before the next one is tried beside it (RFC 8305, section 5)."""
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
        self._hosts = deque(Route(host, port) for host, port in address.endpoints)
        """The one to ask is the first; one that does not help becomes the last."""
        self._channels: dict[Route, Channel] = {}
        self._opening: dict[Route, asyncio.Task[Channel]] = {}
        self._closed = False

    async def greet(self, route: Route, timeout_s: float) -> Channel:
        """A new channel that the broker has let in, for the caller to close.

        Raises :class:`TimeoutError`, :class:`OSError`, :class:`EOFError`, and :class:`PulsarFailure` if it refuses.
        """
        tls = self._credential.tls() if self._address.tls else None
        channel = Channel(self._limits, self._credential.token, proxied_to=route.proxied_to, gathers=route.gathers)
        try:
            async with asyncio.timeout(timeout_s):
                await _connect(channel, route, tls)
                await channel.welcome()
        except BaseException:
            channel.abort()
            raise
        return channel

    async def channel(self, topic: str, *, gathers: bool) -> Channel:
        """A channel to the broker that serves the topic now; raises :class:`PulsarFailure`."""
        service = await self._service()
        try:
            route = await self._look_up(topic, service)
        except PulsarFailure as failure:
            if failure.result in TRY_AGAIN:
                self._put_last(service)
            raise
        return await self._to(route._replace(gathers=gathers))

    async def check(self) -> list[bool]:
        """Whether they give an answer, one by one; what gives none in time is ended, and others will be opened."""
        found = [(route, channel) for route, channel in self._channels.items() if not channel.lost]
        return await asyncio.gather(*(self._answers(route, channel) for route, channel in found))

    async def aclose(self) -> None:
        """Write what waits, and close all."""
        self._closed = True
        openings = list(self._opening.values())
        for opening in openings:
            opening.cancel()
        if openings:
            await asyncio.wait(openings)
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.aclose() for channel in channels))

    async def _service(self) -> Route:
        """The way to the address that was given: the first host that lets us in."""
        for _ in range(len(self._hosts) - 1):
            route = self._hosts[0]
            try:
                await self._to(route)
            except PulsarFailure:
                self._put_last(route)
            else:
                return route
        return self._hosts[0]

    def _put_last(self, host: Route) -> None:
        if self._hosts[0] == host:  # and nobody else has done it
            self._hosts.rotate(-1)

    async def _look_up(self, topic: str, service: Route) -> Route:
        """The way to the broker that serves a topic."""
        asked, authoritative = service, False
        for _ in range(_REDIRECTS_MAX):
            answer = await (await self._to(asked)).look_up(topic, authoritative=authoritative)
            verdict = answer.number(3)
            if verdict not in (_REDIRECT, _CONNECT):
                raise refused(answer.number(6), answer.text(7))
            asked = self._route(answer.text(2 if self._address.tls else 1), service if answer.number(8) else None)
            if verdict == _CONNECT:
                return asked
            authoritative = bool(answer.number(5))
        raise PulsarFailure(Result.LookupError, "the brokers send one another round in circles")

    async def _to(self, route: Route) -> Channel:
        if self._closed:
            raise PulsarFailure(Result.AlreadyClosed)
        channel = self._channels.get(route)
        if channel is not None and not channel.lost:
            return channel
        opening = self._opening.get(route)
        if opening is None:
            # One for all who wait: of a host that is silent, each would else find that out for itself, one by one.
            opening = self._opening[route] = asyncio.create_task(self._open(route), name=f"pulsar-channel {route.host}")
            opening.add_done_callback(partial(self._opened, route))
        await asyncio.wait({opening})
        if opening.cancelled():
            raise PulsarFailure(Result.AlreadyClosed)
        return opening.result()

    def _opened(self, route: Route, opening: asyncio.Task[Channel]) -> None:
        del self._opening[route]
        if not opening.cancelled():
            opening.exception()  # whoever waited may have given up

    async def _open(self, route: Route) -> Channel:
        where = f"{route.host}:{route.port}"
        try:
            channel = await self.greet(route, self._limits.connect_timeout_s)
        except TimeoutError:
            raise PulsarFailure(Result.ConnectError, f"{where} gives no answer") from None
        except (OSError, EOFError, ssl.SSLError) as error:
            raise PulsarFailure(Result.ConnectError, f"{where}: {error}") from None
        self._channels[route] = channel
        return channel

    def _route(self, url: str, through: Route | None) -> Route:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port:
            raise PulsarFailure(Result.LookupError, "the broker of the topic has no address of this kind")
        if through is None or through == (host, port, None, False):
            return Route(host, port)
        return through._replace(proxied_to=parts.netloc)

    async def _answers(self, route: Route, channel: Channel) -> bool:
        now = asyncio.get_running_loop().time
        asked_at = now()
        if await _shows_life(channel):
            channel.silent_since = None
            return True
        # With a second chance: this process itself may have stood still for so long. And a broker whose storage is slow
        # reads no more from who publishes. To such a one a new connection would write everything once more. Only when
        # what it has not confirmed has ended as unknown is nothing lost by that.
        alive, lets_in = await asyncio.gather(_shows_life(channel), self._lets_in(route))
        channel.silent_since = None if alive else channel.silent_since or asked_at
        if channel.silent_since is None:
            return True
        if lets_in and now() - channel.silent_since < self._limits.send_timeout_ms / 1000:
            return True
        channel.abort()
        return False

    async def _lets_in(self, route: Route) -> bool:
        """Whether a further connection would be let in."""
        try:
            channel = await self.greet(route, self._limits.ping_timeout_s)
        except (OSError, EOFError, PulsarFailure):  # a timeout is an OSError
            return False
        channel.abort()
        return True


async def _connect(channel: Channel, route: Route, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
    except UnicodeError:  # as of pulsar..svc, where a variable was empty
        raise OSError("no host has such a name") from None
    # One after the other, as the loop would try them, a silent one takes up all the time that there is.
    connected = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop)
    try:
        await loop.create_connection(
            lambda: channel, sock=connected, ssl=tls, server_hostname=route.host if tls else None
        )
    except BaseException:
        connected.close()
        raise


async def _shows_life(channel: Channel) -> bool:
    before = channel.traffic
    try:
        await channel.ping()
    except PulsarFailure:
        # The answer comes behind all that is on its way already, which takes its time over a slow line.
        return channel.traffic.since(before)
    return True
