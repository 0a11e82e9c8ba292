"""A client's visit, from the door to the end of its response: which key it has, what that may do, what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.requests.decisions import Complete
from wire.errors import Forbidden

if TYPE_CHECKING:
    from gateway.keys.key import Key
    from gateway.keys.permits import Permit
    from gateway.keys.quota import Quota
    from gateway.requests.exchange import Exchange
    from wire.request import Request


class Visit:
    """Stands in ``scope["state"]["visit"]`` of every request that was let in. :meth:`end` is called for all of them."""

    def __init__(self, key: Key | None = None, quota: Quota | None = None) -> None:
        self.key = key
        self.exchange: Exchange | None = None
        """The exchange of the request that was admitted, once it is owned."""
        self._quota = quota if key is not None and key.is_limited else None
        self._permit: Permit | None = None

    @property
    def key_id(self) -> str | None:
        """What events call the key."""
        return self.key.name if self.key else None

    def tags(self, asked: dict[str, str]) -> dict[str, str]:
        """What a request is counted under: the key's own tags, and those it asked for beside them."""
        return asked | dict(self.key.tags) if self.key else asked

    def sees(self, asked: str | None, model: str) -> bool:
        """Whether a model exists for this client, by the name that was asked for or the one behind an alias."""
        return self.key is None or self.key.models is None or bool({asked, model} & self.key.models)

    def check_model(self, asked: str | None, model: str) -> None:
        """Raises :class:`wire.errors.Forbidden`, whether or not there is such a model: that is not told."""
        if not self.sees(asked, model):
            raise Forbidden("This API key may not use that model. GET /v1/models lists those it may.", param="model")

    async def admit(self, request: Request) -> None:
        """Count a request against the key's limits. Raises :class:`wire.errors.RateLimited`."""
        if self._quota is not None and self.key is not None:
            self._permit = await self._quota.admit(self.key, request)

    def end(self) -> None:
        """The response has ended, well or not. Does nothing twice."""
        permit, self._permit = self._permit, None
        quota, exchange = self._quota, self.exchange
        if permit is None or quota is None:
            return
        if exchange is not None and exchange.goes_on:
            # Its client has left. It works for this key all the same, until it ends.
            exchange.on_end = lambda: quota.end(permit, _tokens_used(exchange, permit))
        else:
            quota.end(permit, _tokens_used(exchange, permit))

    async def headers(self) -> list[tuple[bytes, bytes]]:
        """What every response to a limited key tells about its limits."""
        if self._quota is None or self.key is None:
            return []
        return await self._quota.headers(self.key)


def _tokens_used(exchange: Exchange | None, permit: Permit) -> int:
    """As the client is charged: nothing for what failed. For an answer that was cancelled the estimate stands."""
    if exchange is None:
        return 0
    if exchange.end is None:
        return permit.tokens if exchange.begun else 0
    return exchange.end.usage.total_tokens if isinstance(exchange.end, Complete) else 0
