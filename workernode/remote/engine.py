"""The engine that relays to an OpenAI-compatible HTTP API."""

from __future__ import annotations

import asyncio
import importlib.metadata
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import aiohttp
from yarl import URL

from process.logging import Log
from wire.errors import DeadlineExceeded, InvalidRequest, UpstreamFailed
from wire.request import Endpoint
from workernode.engine import Engine, EngineDetails, EngineUnusable
from workernode.outcome import Answered, Later, Refused
from workernode.remote.body import upstream_body
from workernode.remote.chunk import identity
from workernode.remote.errors import Failure, usable
from workernode.remote.exchange import Exchange
from workernode.remote.headers import request_headers
from workernode.remote.retry import with_retries
from workernode.remote.stream import StreamLimits, StreamRelay
from workernode.remote.url import endpoint_url
from workernode.remote.usage import CHARS_PER_TOKEN
from workernode.remote.vectors import embedded
from workernode.remote.whole import rewritten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workernode.engine import Answer, Job

_log = Log("node.remote")

_MAIN: Endpoint = "chat/completions"
"""Every provider serves it: one that does not know it is not where API_URL says."""


class RemoteEngine(Engine):
    """Relays to an OpenAI-compatible API: the client's bytes in, the provider's bytes out, with our id and model.

    ``api_key`` is asked for each request, so that a key can be replaced while the node runs; None sends none.
    A whole answer has no time limit but the request's own, since its head comes only when it is complete.
    """

    def __init__(
        self,
        *,
        api_url: str,
        api_key: Callable[[], str | None],
        upstream_model: str,
        slots: int,
        endpoints: tuple[Endpoint, ...] = get_args(Endpoint),
        context_length: int | None = None,
        connect_timeout_s: float = 5.0,
        first_token_timeout_s: float = 120.0,
        between_tokens_timeout_s: float = 60.0,
        answer_bytes_max: int = 64 * 2**20,
        event_bytes_max: int = 4 * 2**20,
        trust_env: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api_url = api_url
        self._api_key = api_key
        self._upstream_model = upstream_model
        self._slots = slots
        self._connect_timeout_s = connect_timeout_s
        self._first_token_timeout_s = first_token_timeout_s
        self._between_tokens_timeout_s = between_tokens_timeout_s
        self._answer_bytes_max = answer_bytes_max
        self._stream_limits = StreamLimits(between_tokens_timeout_s, event_bytes_max, answer_bytes_max)
        self._trust_env = trust_env
        self._sleep = sleep
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._details = EngineDetails(upstream_model=upstream_model, endpoints=endpoints, context_length=context_length)

    @property
    def details(self) -> EngineDetails:
        """The upstream's model; its host as provider once started."""
        return self._details

    async def start(self) -> None:
        """Open the HTTP session. The upstream is not called: a wrong key is a state that working finds."""
        endpoints = self._details.endpoints
        try:
            self._urls = {name: URL(endpoint_url(self._api_url, name), encoded=True) for name in endpoints}
        except ValueError as error:
            raise EngineUnusable(str(error)) from None
        self._details = replace(self._details, provider=self._urls[endpoints[0]].host)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._slots),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            headers={"user-agent": f"workernode/{_version()}", "content-type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        """Relay one request, and try again before its first token where that may help."""
        if job.prefix is not None:
            return Later(UpstreamFailed("A remote model cannot continue an answer.", code="cannot_continue").body())
        if job.remaining_s <= 0:
            return Refused(DeadlineExceeded().body())
        try:
            body = upstream_body(job.request.body, model=self._upstream_model, stream=job.request.stream)
        except InvalidRequest as error:
            return Refused(error.body())
        loop = asyncio.get_running_loop()
        due = loop.time() + job.remaining_s

        def notice(failure: Failure, wait_s: float) -> None:
            _log.info(
                "The upstream failed and is tried again.",
                action="upstream_retry",
                request=job.request.request_id,
                code=failure.outcome.error.code,
                wait_s=round(wait_s, 2),
            )

        try:
            async with asyncio.timeout_at(due) as deadline:
                return await with_retries(
                    lambda: self._attempt(job, body, answer),
                    remaining_s=lambda: due - loop.time(),
                    sleep=self._sleep,
                    notice=notice,
                )
        except Failure as failure:
            return failure.outcome
        except TimeoutError:
            if not deadline.expired():
                raise
            return Refused(DeadlineExceeded().body())

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _attempt(self, job: Job, body: bytes, answer: Answer) -> Answered:
        assert self._session is not None, "start() was not called"
        request = job.request
        key = usable(self._api_key())
        own = identity(
            answer_id=job.answer_id,
            created_s=job.created_s,
            model=request.model,
            completion=request.endpoint == "completions",
        )
        async with Exchange(self._session, key=key, optional=request.endpoint != _MAIN) as exchange:
            await exchange.send(
                self._urls[request.endpoint],
                body,
                request_headers(request, key=key, host=self._details.provider or ""),
                within_s=self._first_token_timeout_s if request.stream else None,
            )
            if request.stream:
                return await StreamRelay(job, own, answer, self._stream_limits, key=key).run(exchange)
            exchange.expect(self._between_tokens_timeout_s)
            received = await exchange.read_all(bytes_max=self._answer_bytes_max)
            exchange.expect(None)
            if request.endpoint == "embeddings":
                whole = embedded(received, model=request.model, request_body=request.body, key=key)
            else:
                whole = rewritten(received, own, request_body=request.body, key=key)
            del received  # before the gateway takes its time: an answer may be large
            await answer.write(whole.body, text_chars=whole.usage.completion_tokens * CHARS_PER_TOKEN)
            return Answered(whole.usage, whole.finish_reason)


def _version() -> str:
    try:
        return importlib.metadata.version("workernode")
    except importlib.metadata.PackageNotFoundError:
        return "0"  # run from a checkout
