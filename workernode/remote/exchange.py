"""One HTTP exchange with the upstream. Whatever goes wrong with it comes out as a :class:`Failure`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import time
from typing import TYPE_CHECKING

import aiohttp

from wire.errors import AnswerTooLarge
from workernode.outcome import Refused
from workernode.remote.errors import (
    ERROR_BYTES_MAX,
    Failure,
    failure_of,
    too_slow,
    unreachable,
    unserved,
)
from workernode.remote.provider_error import provider_error
from workernode.remote.rules import STRANGE, row_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from yarl import URL

    from workernode.traced import UpstreamCall

_AT_ONCE_BYTES_MAX = 2**20
_ERROR_BODY_WAIT_S = 5.0
_LAST_BYTES_WAIT_S = 0.05
_UNKNOWN_ADDRESS = (404, 405, 501)


class Exchange:
    """A request to the upstream, and its answer as it comes.

    Leaving the block closes the connection, unless the answer was read to its end: then it is kept for the next
    request. How long the upstream may be silent is said by :meth:`expect`; without it there is no limit here.
    ``optional``: an upstream that does not know the address may be well all the same.
    """

    def __init__(self, session: aiohttp.ClientSession, *, key: str | None, optional: bool = False) -> None:
        self._session = session
        self._key = key
        self.call: UpstreamCall | None = None
        """Its span, where somebody wants traces. Set before :meth:`send`."""
        self._optional = optional
        self._loop = asyncio.get_running_loop()
        self._response: aiohttp.ClientResponse | None = None
        # The limit moves with every token, so the timer does not: it looks at `_due` when it goes off.
        self._due = math.inf
        self._armed = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._overdue = False
        self._sent = b""

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the answer, once its head is here."""
        return self._response.headers if self._response is not None else {}

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._response is not None:
            self._response.close()
        if self.call is not None:
            self.call.end(None if error is None else _code_of(error))

    async def send(self, url: URL, body: bytes, headers: Mapping[str, str], *, within_s: float | None) -> None:
        """Send the request and wait for the head of a good answer. ``within_s`` stays in force: see :meth:`expect`."""
        # aiohttp hands bytes to the socket in one go, and warns of large ones; a file it sends in parts.
        data = body if len(body) < _AT_ONCE_BYTES_MAX else io.BytesIO(body)
        self._sent = body
        due = None if within_s is None else self._loop.time() + within_s
        if self.call is not None:
            headers = {**headers, **self.call.headers}
        try:
            async with contextlib.nullcontext() if due is None else asyncio.timeout_at(due):
                response = await self._session.post(url, data=data, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise unreachable(error) from None  # a slow connection is one of these
        except TimeoutError:
            raise too_slow() from None
        except OSError:
            raise unreachable() from None
        self._response = response
        if self.call is not None:
            self.call.status(response.status)
        if response.status // 100 != 2:
            raise await self._failure(response)
        if due is not None:
            self._expect_until(due)

    def expect(self, within_s: float | None) -> None:
        """Something of the answer must come within that many seconds from now; None: it may take any time."""
        self._expect_until(math.inf if within_s is None else self._loop.time() + within_s)

    async def read(self) -> bytes:
        """What has come since the last call, or the next that comes; nothing at the end of the answer."""
        assert self._response is not None
        content = self._response.content
        try:
            return content.read_nowait() or await content.readany()
        except (aiohttp.ClientError, OSError, EOFError):
            raise (too_slow() if self._overdue else unreachable()) from None

    async def read_all(self, *, bytes_max: int, between_s: float | None = None) -> bytearray:
        """The answer to its end. Refuses more than ``bytes_max``; with ``between_s`` each part has so long to come."""
        body = bytearray()
        if between_s is not None:
            self.expect(between_s)
        while data := await self.read():
            body += data
            if between_s is not None:
                self.expect(between_s)
            if len(body) > bytes_max:
                raise Failure(Refused(AnswerTooLarge().body()))
        return body

    async def drain(self) -> None:
        """After a stream's last event: wait a moment for the end of the answer, so that the connection can be kept."""
        assert self._response is not None
        self.expect(_LAST_BYTES_WAIT_S)
        try:
            while not self._response.content.at_eof() and await self.read():
                pass
        except Failure:
            return  # the answer is complete, and the connection will be closed

    async def _failure(self, response: aiohttp.ClientResponse) -> Failure:
        self.expect(_ERROR_BODY_WAIT_S)
        try:
            body = await self.read_all(bytes_max=ERROR_BYTES_MAX)
        except Failure:
            body = bytearray()  # the status alone has to do
        knows_no_path = row_for(response.status, provider_error(body)).rule is STRANGE
        if self._optional and response.status in _UNKNOWN_ADDRESS and knows_no_path:
            return unserved()
        return failure_of(response.status, response.headers, body, key=self._key, now_s=time.time(), sent=self._sent)

    def _expect_until(self, due: float) -> None:
        self._due = due
        if due < self._armed:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = due
            self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer, self._armed = None, math.inf
        if self._due > self._loop.time():
            if self._due != math.inf:
                self._expect_until(self._due)
        elif self._response is not None:
            self._overdue = True
            # Wakes the reader. By closing alone aiohttp would wake all with one exception of its own, which never lets
            # go of what it passes through, the prompt too.
            self._response.content.set_exception(TimeoutError())
            self._response.close()


def _code_of(error: BaseException) -> str:
    if isinstance(error, Failure):
        return error.outcome.error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
