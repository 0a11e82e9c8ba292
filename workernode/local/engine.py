"""The engine of a local model: a child process that serves the OpenAI API, kept running, and relayed to."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from process.logging import Log
from process.settings import COUNT_MAX
from wire.errors import EngineAway, EngineDied, InvalidRequest, StreamInterrupted, UpstreamFailed
from workernode.engine import Engine, EngineDetails
from workernode.local.continuing import continued
from workernode.local.presets import PRESETS, Place, slots_of, unheeded, visible_gpus
from workernode.local.settings import child_environment
from workernode.local.supervisor import Life, Program, Report, Supervisor
from workernode.local.tokenize import tokens_of
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wire.request import Endpoint
    from workernode.engine import Answer, Job
    from workernode.local.presets import Preset
    from workernode.settings import NodeSettings

log = Log("node.engine")

DEATH_SHOWS_S = 1.0
"""How long after its connections the end of a process may show."""
ASK_WAIT_S = 5.0
_EMBEDDINGS_ALONE = ("embeddings",)
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
            endpoints=_served(settings, self._preset),
            context_length=settings.context_length,
            continues=self._preset.continues,
        )
        self._life: Life | None = None
        self._relaying: Engine | None = None
        self._tokenizes = False
        """Whether the child has shown that it tells tokens as it is told to."""
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
                async with self._asking() as session:
                    tokens = await self._tokens(session, life, job.prefix, special=False)
                request = continued(job.request, job.prefix, tokens)
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
            if isinstance(outcome, Refused) and outcome.upstream == "silent":
                # A model that takes its time over a whole answer is no provider that cannot be reached: whether the
                # child is well is its supervisor's to say.
                return replace(outcome, upstream="unknown")
            return outcome
        finally:
            work.cancel()
            death.cancel()
            await asyncio.gather(work, death, return_exceptions=True)

    async def count(self, prompts: Sequence[str]) -> list[int] | None:
        """By the child, or where it tells no tokens, by ``TOKENIZER``."""
        life, relaying = self._life, self._relaying
        if life is None or relaying is None:
            return None
        if not self._tokenizes:
            return await relaying.count(prompts)
        counts = []
        async with self._asking() as session:
            for prompt in prompts:
                tokens = await self._tokens(session, life, prompt, special=True)
                if tokens is None:
                    return None
                counts.append(len(tokens))
        return counts

    async def ask(self, method: str, path: str, body: Any, *, wait_s: float) -> Any:
        """What the child answers beside all requests; None if it does not, or is not there."""
        if self._life is None:
            return None
        async with self._asking(wait_s) as session:
            return await _answer(session, method, f"{self._life.url}{path}", body)

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
            place = Place(port, slots, model, settings.context_length, embeds=settings.served == _EMBEDDINGS_ALONE)
            return [*preset.argv(settings, place), *shlex.split(settings.local_arguments)]

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
        # Known from here on, so that it is closed even if the child does not outlive the questions below.
        relaying = self._relaying = self._relay(f"{life.url}/v1", self._key)
        await relaying.start()
        form, model = self._preset.tokenize, self._details.upstream_model or ""
        async with self._asking() as session:
            details = _told(self._details, await _answer(session, "GET", f"{life.url}/v1/models"))
            if form is not None:
                answer = await _answer(session, "POST", f"{life.url}/tokenize", form.trial(model))
                self._tokenizes = form.is_known(answer)
        self._details = replace(details, counts=self._tokenizes or relaying.details.counts)
        self._life = life

    async def _over(self) -> None:
        relaying, self._life, self._relaying = self._relaying, None, None
        self._details = replace(self._details, counts=False)
        if relaying is not None:
            await relaying.aclose()

    async def _tokens(
        self, session: aiohttp.ClientSession, life: Life, text: str, *, special: bool
    ) -> list[int] | None:
        """The tokens of a text, where the child tells them."""
        if not self._tokenizes or self._preset.tokenize is None:
            return None
        question = self._preset.tokenize.question(text, self._details.upstream_model or "", special=special)
        return tokens_of(await _answer(session, "POST", f"{life.url}/tokenize", question))

    def _asking(self, wait_s: float = ASK_WAIT_S) -> aiohttp.ClientSession:
        """To ask the child beside all requests."""
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=wait_s), headers=headers)


def _served(settings: NodeSettings, preset: Preset) -> tuple[Endpoint, ...]:
    if preset.embeds_apart and settings.served != _EMBEDDINGS_ALONE:
        return tuple(name for name in settings.served if name != "embeddings")
    return settings.served


async def _answer(session: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Any:
    """What the child answers; None if it does not."""
    try:
        async with session.request(method, url, json=body) as response:
            return msgspec.json.decode(await response.read()) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
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
        meta = model.get("meta") or {}
        context = model.get("context_length") or model.get("max_model_len") or meta.get("n_ctx")
    except (TypeError, KeyError, IndexError, AttributeError):
        return details
    if type(context) is not int or not 0 < context <= COUNT_MAX:
        context = None  # -1 or 10^30 where there is no limit: a heartbeat with that would be read by nobody
    endpoints: tuple[Endpoint, ...] = details.endpoints
    if isinstance(model.get("endpoints"), list):
        endpoints = tuple(name for name in endpoints if name in model["endpoints"]) or endpoints
    return replace(details, context_length=details.context_length or context, endpoints=endpoints)
