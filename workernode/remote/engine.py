"""The engine that relays to an OpenAI-compatible HTTP API."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from process.identity import now_ms
from process.logging import Log
from process.timers import Timers
from process.tls import trusting
from wire.errors import DeadlineExceeded, InvalidRequest, UpstreamFailed
from wire.request import Endpoint
from workernode.engine import Engine, EngineDetails, EngineUnusable
from workernode.outcome import Answered, Later, Refused
from workernode.remote.allowance import Limits
from workernode.remote.body import upstream_fields
from workernode.remote.call import plan
from workernode.remote.caller import MAIN, AnswerLimits, Caller
from workernode.remote.dialects.dialect import dialect_at
from workernode.remote.dialects.learning import holds_for_all, lesson
from workernode.remote.errors import Failure, is_limit, limited, usable
from workernode.remote.pace import CredentialPace
from workernode.remote.retry import RetryBudget, with_retries
from workernode.remote.stream import StreamLimits
from workernode.remote.tokens import ByLength, token_counter
from workernode.remote.url import deployment_url, endpoint_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from wire.request import Request
    from workernode.engine import Answer, Job
    from workernode.remote.call import Plan
    from workernode.remote.dialects.dialect import Adapter, Dialect
    from workernode.remote.tokens import TokenCounter

log = Log("node.remote")

_HEADER_BYTES_MAX = 64 * 1024
"""Of one header of an answer. What stands before a provider writes long ones, of policies and cookies."""


class RemoteEngine(Engine):
    """Relays to an OpenAI-compatible API: the client's bytes in, the provider's bytes out, with our id and model.

    ``api_key`` is asked for each request, so that a key can be replaced while the node runs; None sends none. ``pace``
    hears of every call and forbids some; without one, nothing is known of limits.
    ``node`` is this node's incarnation, which tells a gateway that a request comes round. A request that needs several
    calls holds one slot; no more than ``slots`` calls are under way at once.
    """

    def __init__(
        self,
        *,
        api_url: str,
        api_key: Callable[[], str | None],
        upstream_model: str,
        slots: int,
        node: str = "node-of-no-fleet",
        dialect: Dialect | None = None,
        tokenizer: str = "",
        endpoints: tuple[Endpoint, ...] = get_args(Endpoint),
        context_length: int | None = None,
        connect_timeout_s: float = 5.0,
        first_token_timeout_s: float = 120.0,
        between_tokens_timeout_s: float = 60.0,
        answer_bytes_max: int = 64 * 2**20,
        event_bytes_max: int = 4 * 2**20,
        proxy: str | None = None,
        pace: CredentialPace | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api_url = api_url
        self._api_key = api_key
        self._upstream_model = upstream_model
        self._slots = slots
        self._connect_timeout_s = connect_timeout_s
        self._limits = AnswerLimits(
            first_token_timeout_s, StreamLimits(between_tokens_timeout_s, event_bytes_max, answer_bytes_max)
        )
        self._proxy = proxy
        self._pace = pace or CredentialPace(lambda: "", "", Limits(), clock=time.monotonic, unix_ms=now_ms)
        self._retries = RetryBudget()
        self._node = node
        self._dialect = dialect
        self._tokenizer = tokenizer
        self._counter: TokenCounter = ByLength()
        self._adapters: frozenset[Adapter] = frozenset()
        self._places = asyncio.Semaphore(slots)
        self._sleep = sleep
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._timers: Timers | None = None
        self._details = EngineDetails(upstream_model=upstream_model, endpoints=endpoints, context_length=context_length)

    @property
    def details(self) -> EngineDetails:
        """The upstream's model; its host as provider once started."""
        return self._details

    async def start(self) -> None:
        """Open the HTTP session. The upstream is not called: a wrong key is a state that working finds."""
        self._timers = Timers(asyncio.get_running_loop())
        endpoints = self._details.endpoints
        self._counter = token_counter(self._tokenizer)
        try:
            address = urlsplit(endpoint_url(self._api_url, MAIN))
            host, secure = address.hostname or "", address.scheme == "https"
            dialect = self._dialect or dialect_at(host)
            azure = "deployments" in dialect.adapters
            base = deployment_url(self._api_url, self._upstream_model) if azure else self._api_url
            self._urls = {name: URL(endpoint_url(base, name), encoded=True) for name in endpoints}
        except ValueError as error:
            raise EngineUnusable(str(error)) from None
        self._adapters = dialect.adapters
        self._details = replace(self._details, provider=host, counts=self._counter.exact)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._slots, ssl=trusting() if secure else True),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout_s),
            headers={"user-agent": f"workernode/{_version()}", "content-type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
            max_field_size=_HEADER_BYTES_MAX,
        )

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        """Relay one request, and try again before its first token where that may help."""
        if job.prefix is not None:
            return Later(UpstreamFailed("A remote model cannot continue an answer.", code="cannot_continue").body())
        if job.remaining_s <= 0:
            return Refused(DeadlineExceeded().body(), upstream="unknown")
        reserved = used = self._reserve(job.request)
        try:
            outcome = await self._asked(job, answer)
            used = outcome.usage.total_tokens if isinstance(outcome, Answered) else 0
            return outcome
        finally:
            self._pace.settle(reserved, used)

    async def count(self, prompts: Sequence[str]) -> list[int] | None:
        """By ``TOKENIZER``; the provider is not asked."""
        return await asyncio.to_thread(self._counter.texts, prompts) if self._counter.exact else None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _reserve(self, request: Request) -> float:
        tokens = ByLength().prompt(request.body) if self._pace.counts("tokens") else 0
        asked = None if request.max_tokens is None else request.max_tokens * request.generated
        return self._pace.reserve(tokens, asked)

    async def _asked(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        assert self._timers is not None, "start() was not called"
        loop, asked_at = self._timers.loop, self._pace.now
        due = loop.time() + job.remaining_s

        def notice(failure: Failure, wait_s: float) -> None:
            self._pace.again()
            log.info(
                "The upstream failed and is tried again.",
                action="upstream_retry",
                request_id=job.request.request_id,
                trace_id=None if job.span is None else job.span.trace_id,
                code=failure.outcome.error.code,
                wait_s=round(wait_s, 2),
            )

        try:
            with self._timers.limit(job.remaining_s) as deadline:
                return await with_retries(
                    lambda: self._attempt(job, answer, due),
                    budget=self._retries,
                    remaining_s=lambda: due - loop.time(),
                    sleep=self._sleep,
                    notice=notice,
                )
        except Failure as failure:
            return failure.outcome
        except InvalidRequest as error:
            return Refused(error.body(), upstream="unknown")
        except TimeoutError:
            if not deadline.over:
                raise
            return Refused(DeadlineExceeded().body(), upstream="silent" if self._was_silent(asked_at) else "unknown")

    def _was_silent(self, since: float) -> bool:
        """Whether nobody got even a head for as long as one may take: a client's short deadline alone tells nothing."""
        return self._pace.accepted_at < since <= self._pace.now - self._limits.first_token_s

    async def _attempt(self, job: Job, answer: Answer, due: float) -> Answered:
        """One try; after a refusal that teaches an adapter another one with it, each at most once."""
        tried: frozenset[Adapter] = frozenset()
        learnt: frozenset[Adapter] = frozenset()
        while True:
            adapters = self._adapters | tried  # another request may learn one while this one is under way without it
            fields = upstream_fields(job.request, model=self._upstream_model, adapters=adapters)
            calls = plan(job.request, fields, adapters)
            try:
                return await self._paced(self._caller(job, due, adapters, learnt), calls, answer)
            except Failure as failure:
                adapter = lesson(failure.outcome.error, fields, adapters)
                if adapter is None:
                    raise
                tried |= {adapter}
                if holds_for_all(failure.outcome.error):
                    learnt |= {adapter}
                self._pace.again()

    def _learn(self, adapters: frozenset[Adapter]) -> None:
        """The provider took a request with them: only that shows that a refusal was about what they mend, and not about
        another word of its request's."""
        for adapter in sorted(adapters - self._adapters):
            log.warning(
                "The provider does not know a parameter: from now on an adapter mends that.",
                action="adapter_learned",
                adapter=adapter,
                provider=self._details.provider,
            )
        self._adapters |= adapters

    async def _paced(self, caller: Caller, calls: Plan, answer: Answer) -> Answered:
        if (wait_s := self._pace.limited_s()) > 0:
            raise limited(wait_s)  # the request was taken before that was known
        for _ in calls.calls[1:]:
            self._pace.again()
        sent_at = self._pace.now
        try:
            return await caller.answer(calls, answer)
        except Failure as failure:
            self._pace.learn(failure.said)
            if is_limit(failure):
                wait_ms = failure.outcome.error.retry_after_ms
                self._pace.refused(None if wait_ms is None else wait_ms / 1000, sent_at)
            self._pace.changed()
            raise

    def _caller(self, job: Job, due: float, adapters: frozenset[Adapter], learnt: frozenset[Adapter]) -> Caller:
        assert self._session is not None, "start() was not called"
        return Caller(
            self._session,
            self._places,
            self._limits,
            self._counter,
            self._pace,
            job=job,
            url=self._urls[job.request.endpoint],
            key=usable(self._api_key()),
            adapters=adapters,
            model=self._upstream_model,
            node=self._node,
            due=due,
            taken=partial(self._learn, learnt) if learnt else None,
        )


def _version() -> str:
    try:
        return importlib.metadata.version("workernode")
    except importlib.metadata.PackageNotFoundError:
        return "0"  # run from a checkout
