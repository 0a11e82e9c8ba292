"""The engine that relays to an OpenAI-compatible HTTP API."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import aiohttp
from yarl import URL

from process.identity import now_ms
from process.logging import Log
from wire.errors import DeadlineExceeded, InvalidRequest, UpstreamFailed
from wire.request import Endpoint
from workernode.engine import Engine, EngineDetails, EngineUnusable
from workernode.outcome import Answered, Later, Refused
from workernode.remote.allowance import Limits
from workernode.remote.body import upstream_body
from workernode.remote.chunk import identity
from workernode.remote.errors import Failure, is_limit, limited, usable
from workernode.remote.exchange import Exchange
from workernode.remote.headers import request_headers
from workernode.remote.pace import CredentialPace
from workernode.remote.retry import RetryBudget, with_retries
from workernode.remote.stated import stated
from workernode.remote.stream import StreamLimits, StreamRelay
from workernode.remote.url import endpoint_url
from workernode.remote.usage import CHARS_PER_TOKEN, prompt_chars
from workernode.remote.vectors import embedded
from workernode.remote.whole import rewritten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wire.request import Request
    from workernode.engine import Answer, Job

_log = Log("node.remote")

_MAIN: Endpoint = "chat/completions"
"""Every provider serves it: one that does not know it is not where API_URL says."""


class RemoteEngine(Engine):
    """Relays to an OpenAI-compatible API: the client's bytes in, the provider's bytes out, with our id and model.

    ``api_key`` is asked for each request, so that a key can be replaced while the node runs; None sends none. ``pace``
    hears of every call and forbids some; without one, nothing is known of limits.
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
        pace: CredentialPace | None = None,
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
        self._pace = pace or CredentialPace(lambda: "", "", Limits(), clock=time.monotonic, unix_ms=now_ms)
        self._retries = RetryBudget()
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
        reserved = used = self._reserve(job.request)
        try:
            outcome = await self._asked(job, body, answer)
            used = outcome.usage.total_tokens if isinstance(outcome, Answered) else 0
            return outcome
        finally:
            self._pace.settle(reserved, used)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _reserve(self, request: Request) -> float:
        chars = prompt_chars(request.body) if self._pace.counts("tokens") else 0
        asked = None if request.max_tokens is None else request.max_tokens * (request.n or 1)
        return self._pace.reserve(chars / CHARS_PER_TOKEN, asked)

    async def _asked(self, job: Job, body: bytes, answer: Answer) -> Answered | Refused | Later:
        loop = asyncio.get_running_loop()
        due = loop.time() + job.remaining_s

        def notice(failure: Failure, wait_s: float) -> None:
            self._pace.again()
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
                    budget=self._retries,
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

    async def _attempt(self, job: Job, body: bytes, answer: Answer) -> Answered:
        if (wait_s := self._pace.limited_s()) > 0:
            raise limited(wait_s)  # the request was taken before that was known
        sent_at = self._pace.now
        try:
            return await self._exchanged(job, body, answer, sent_at)
        except Failure as failure:
            self._pace.learn(failure.said)
            if is_limit(failure):
                wait_ms = failure.outcome.error.retry_after_ms
                self._pace.refused(None if wait_ms is None else wait_ms / 1000, sent_at)
            self._pace.changed()
            raise

    async def _exchanged(self, job: Job, body: bytes, answer: Answer, sent_at: float) -> Answered:
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
            self._pace.learn(stated(exchange.headers, time.time()))
            self._pace.accepted(sent_at)
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
