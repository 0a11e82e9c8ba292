"""The window for questions about tokens, which are no requests: a node is asked, or the length tells."""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import TYPE_CHECKING

from gateway.endpoints import token_check
from gateway.endpoints.fields import named
from gateway.http.body import ClientGone, read_body
from gateway.http.model_list import context_length

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gateway.endpoints.token_check import PromptToCheck
    from gateway.http.visit import Visit
    from gateway.models.names import ModelNames
    from gateway.models.register import Models
    from gateway.settings import GatewaySettings
    from gateway.token_questions import TokenQuestions
    from process.timers import Timers


class TokenCounter:
    """``POST /api/v1/token_check`` as an ASGI application."""

    def __init__(
        self,
        settings: GatewaySettings,
        names: ModelNames,
        models: Models,
        questions: TokenQuestions,
        timers: Timers,
    ) -> None:
        self._settings = settings
        self._names = names
        self._models = models
        self._questions = questions
        self._timers = timers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Errors are raised, for :mod:`gateway.http.front` to render."""
        settings = self._settings
        try:
            headers = dict(scope["headers"])
            body = await read_body(
                receive, headers, self._timers, bytes_max=settings.body_bytes_max, wait_s=settings.body_wait_s
            )
        except ClientGone:
            return
        told = await self._answer(scope["state"]["visit"], token_check.read(body))
        told_of = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": told_of})
        await send({"type": "http.response.body", "body": told})

    async def _answer(self, visit: Visit, asked: list[PromptToCheck]) -> bytes:
        """Whoever may not ask for one of the models, or names one that there is not, has nothing counted."""
        models = [self._model(visit, named(each.model)) for each in asked]
        prompts: dict[str, list[str]] = {}
        for model, each in zip(models, asked, strict=True):
            prompts.setdefault(model, []).append(each.prompt)
        limits = {model: context_length(self._models.view(model), self._names) for model in prompts}
        found = await asyncio.gather(*(self._questions.count(model, texts) for model, texts in prompts.items()))
        counts = {model: iter(counted or repeat(None)) for model, counted in zip(prompts, found, strict=True)}
        return token_check.told(
            token_check.checked(each, tokens=next(counts[model]), context_length=limits[model])
            for model, each in zip(models, asked, strict=True)
        )

    def _model(self, visit: Visit, asked: str | None) -> str:
        model = self._names.resolve(asked)
        visit.check_model(asked or self._names.default, model)
        return model
