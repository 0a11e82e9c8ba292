"""The engine of a local model: a child process that serves the OpenAI API, kept running, and relayed to."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from process.logging import Log
from wire.errors import EngineAway, EngineDied, InvalidRequest, StreamInterrupted, UpstreamFailed
from workernode.engine import Engine, EngineDetails
from workernode.local.continuing import continued
from workernode.local.presets import PRESETS, Place, slots_of, unheeded, visible_gpus
from workernode.local.settings import child_environment
from workernode.local.supervisor import Life, Program, Report, Supervisor
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from wire.request import Endpoint
    from workernode.engine import Answer, Job
    from workernode.settings import NodeSettings

log = Log("node.engine")

DEATH_SHOWS_S = 1.0
"""How long after its connections the end of a process may show."""
ASK_WAIT_S = 5.0
_MAYBE_DEATH = (StreamInterrupted.code, UpstreamFailed.code)


class LocalEngine(Engine):
    """Relays to its child. ``relay`` makes the engine that does, for an address and a key.

    What was under way when the child dies is handed back, whatever was shown of it: another node, or the next child,
    goes on with it. ``report`` is called with every change of how the child is; it may be set until :meth:`start`.
    """

    def __init__(self, settings: NodeSettings, relay: Callable[[str, str | None], Engine]) -> None:
        self.report: Callable[[Report], None] = lambda _: None
        self.slots_max = min(settings.max_process_num, slots_of(settings, PRESETS[settings.local_engine]))
        """More than these the engine would only let wait."""
        self._settings = settings
        self._preset = PRESETS[settings.local_engine]
        self._relay = relay
        self._key = secrets.token_urlsafe(32) if self._preset.key_variable else None
        self._details = EngineDetails(
            upstream_model=settings.upstream_model or settings.model,
            provider=settings.local_engine,
            endpoints=settings.served,
            context_length=settings.context_length,
            continues=self._preset.continues,
        )
        self._life: Life | None = None
        self._relaying: Engine | None = None
        self._ready = asyncio.Event()
        self._first_tokens_s: list[float] = []
        self._supervisor = Supervisor(self._program(), report=self._reported, began=self._began, over=self._over)

    @property
    def details(self) -> EngineDetails:
        """What the settings say, and what the child tells once it is ready."""
        return self._details

    @property
    def life(self) -> Life | None:
        """The child, while it is ready."""
        return self._life

    @property
    def restarts(self) -> int:
        """How often the child was started again."""
        return self._supervisor.restarts.count

    def first_token_s(self) -> float | None:
        """The median time to the first token of the streams that began since the last call."""
        times, self._first_tokens_s = self._first_tokens_s, []
        return median(times) if times else None

    async def start(self) -> None:
        """Start the child and return when it is ready, however long that takes: :attr:`report` tells meanwhile."""
        for sentence in unheeded(self._settings):
            log.warning(sentence, action="setting_unheeded")
        self._supervisor.start()
        await self._ready.wait()

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        """Relay one request to the child that is there now."""
        life, relaying = self._life, self._relaying
        if life is None or relaying is None:
            return Later(EngineAway().body())
        if job.prefix is not None:
            try:
                request = continued(job.request, job.prefix, await self._tokens(life, job.prefix))
            except InvalidRequest as error:
                return Refused(error.body())
            job = replace(job, request=request, prefix=None)
        noted = _Noted(answer, life, self._first_tokens_s if job.request.stream else None)
        work = asyncio.ensure_future(relaying.answer(job, noted))
        death = asyncio.ensure_future(life.ended.wait())
        try:
            await asyncio.wait((work, death), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return Later(EngineDied().body())
            outcome = work.result()
            if not isinstance(outcome, Answered) and outcome.error.code in _MAYBE_DEATH:
                await asyncio.wait((death,), timeout=DEATH_SHOWS_S)
                if death.done():
                    return Later(EngineDied().body())
            return outcome
        finally:
            work.cancel()
            death.cancel()
            await asyncio.gather(work, death, return_exceptions=True)

    async def ask(self, method: str, path: str, body: Any, *, wait_s: float) -> Any:
        """What the child answers beside all requests; None if it does not, or is not there."""
        return await self._asked(self._life.url, method, path, body, wait_s) if self._life is not None else None

    async def aclose(self) -> None:
        """End the child and all that it started."""
        await self._supervisor.aclose()

    def _program(self) -> Program:
        settings, preset = self._settings, self._preset
        own = frozenset(name.upper() for name in type(settings).model_fields)
        environment = {**child_environment(own), **visible_gpus(settings), **preset.environment}
        if preset.key_variable is not None and self._key is not None:
            environment[preset.key_variable] = self._key

        def command(port: int) -> list[str]:
            model = settings.upstream_model or settings.model
            slots = slots_of(settings, preset)
            return preset.argv(settings, Place(port, slots, model, settings.context_length))

        return Program(
            command,
            environment,
            preset.health,
            preset.figures,
            self._key,
            ours=settings.local_engine == "transformers",
            log=settings.local_log,
            stall_s=settings.local_stall_s,
        )

    def _reported(self, report: Report) -> None:
        self.report(report)
        if report.state == "ready":
            self._ready.set()

    async def _began(self, life: Life) -> None:
        relaying = self._relay(f"{life.url}/v1", self._key)
        await relaying.start()
        self._details = _told(self._details, await self._asked(life.url, "GET", "/v1/models", None))
        self._life, self._relaying = life, relaying

    async def _over(self) -> None:
        relaying, self._life, self._relaying = self._relaying, None, None
        if relaying is not None:
            await relaying.aclose()

    async def _tokens(self, life: Life, text: str) -> list[int] | None:
        """The tokens of a text, where the child tells them."""
        question = {"prompt": text, "model": self._details.upstream_model, "add_special_tokens": False}
        told = await self._asked(life.url, "POST", "/tokenize", question)
        tokens = told.get("tokens") if isinstance(told, dict) else None
        return tokens if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens) else None

    async def _asked(self, url: str, method: str, path: str, body: Any, wait_s: float = ASK_WAIT_S) -> Any:
        """What the child answers; None if it does not."""
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = aiohttp.ClientTimeout(total=wait_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.request(method, f"{url}{path}", json=body) as response,
            ):
                return msgspec.json.decode(await response.read()) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return None


class _Noted:
    """An answer that notes when its first part comes, and that its engine works."""

    def __init__(self, answer: Answer, life: Life, first_tokens_s: list[float] | None) -> None:
        self._answer = answer
        self._life = life
        self._first_tokens_s = first_tokens_s
        self._since = asyncio.get_running_loop().time()

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        """Pass it on."""
        self._life.works()
        if self._first_tokens_s is not None:
            self._first_tokens_s.append(self._life.well_at - self._since)
            self._first_tokens_s = None
        await self._answer.write(data, text_chars=text_chars)


def _told(details: EngineDetails, models: Any) -> EngineDetails:
    """What ``/v1/models`` adds: OpenAI's list, with what our own server, vLLM and llama.cpp tell beyond it."""
    try:
        model = models["data"][0]
    except (TypeError, KeyError, IndexError):
        return details
    meta = model.get("meta") or {}
    context = model.get("context_length") or model.get("max_model_len") or meta.get("n_ctx")
    endpoints: tuple[Endpoint, ...] = details.endpoints
    if isinstance(model.get("endpoints"), list):
        endpoints = tuple(name for name in endpoints if name in model["endpoints"]) or endpoints
    return replace(
        details,
        context_length=details.context_length or (context if isinstance(context, int) else None),
        endpoints=endpoints,
    )
