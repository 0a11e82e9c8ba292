"""The window for questions about tokens, which need no node."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.body import ClientGone, read_body
from gateway.endpoints import token_check
from gateway.model_list import context_length

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gateway.model_names import ModelNames
    from gateway.models import Models
    from gateway.settings import GatewaySettings
    from gateway.visit import Visit


class TokenCounter:
    """``POST /api/v1/token_check`` as an ASGI application."""

    def __init__(self, settings: GatewaySettings, names: ModelNames, models: Models) -> None:
        self._settings = settings
        self._names = names
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Errors are raised, for :mod:`gateway.front` to render."""
        settings = self._settings
        try:
            body = await read_body(
                scope, receive, dict(scope["headers"]), bytes_max=settings.body_bytes_max, wait_s=settings.body_wait_s
            )
        except ClientGone:
            return
        told = token_check.answer(body, partial(self._context_length, scope["state"]["visit"]))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    def _context_length(self, visit: Visit, asked: str | None) -> int | None:
        model = self._names.resolve(asked)
        visit.check_model(asked, model)
        return context_length(self._models.view(model), self._names)
