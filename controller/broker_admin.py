"""The broker's admin interface: a model's topics are made before its nodes, for KEDA takes a missing one as an error
and would never begin to scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from broker import access
from wire.topics import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wire.topics import Topics

_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_CONFLICT = 409
"""It is there already."""
_NO_AUTHORIZATION = 501
"""Everybody may do everything at this broker."""


class BrokerAdminError(Exception):
    """The broker did not do what was asked; the sentence says why."""


class BrokerAdmin:
    """Everything raises :class:`BrokerAdminError`. ``token`` is asked for each time, as it may be renewed."""

    def __init__(self, url: str, topics: Topics, token: Callable[[], str | None], trusted: Any = True) -> None:
        self._url = url
        self._topics = topics
        self._token = token
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=trusted))

    async def ensure(self, model: str) -> None:
        """Make a model's topics, each with its subscription, where they are missing, and let nodes work with them."""
        for step in access.model(self._topics, model):
            await self._ask(step.method, step.path, step.body, fine=(_CONFLICT, _NO_AUTHORIZATION))

    async def backlog(self, model: str) -> int | None:
        """Requests that wait or are being worked on, as KEDA counts them; None if there is no such queue."""
        stats = await self._ask("GET", f"{_path(self._topics.requests(model))}/stats", fine=(404,))
        try:
            return int(stats["subscriptions"][WORKERS]["msgBacklog"])
        except (KeyError, TypeError, ValueError):
            return None

    async def delete(self, model: str) -> None:
        """Delete a model's topics with what is in them, those who still listen notwithstanding."""
        for topic in (self._topics.requests(model), self._topics.dead_letters(model)):
            await self._ask("DELETE", f"{_path(topic)}?force=true", fine=(404,))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._session.close()

    async def _ask(self, method: str, path: str, body: object = None, *, fine: tuple[int, ...] = ()) -> Any:
        try:
            token = self._token()
        except (OSError, ValueError) as error:
            raise BrokerAdminError(
                f"The token for the broker cannot be read ({type(error).__name__}): check PULSAR_TOKEN_FILE."
            ) from None
        try:
            # The broker refuses even a request without body that does not name its type.
            headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
            url = f"{self._url}/admin/v2/{path}"
            async with self._session.request(method, url, json=body, headers=headers) as answer:
                if answer.status >= 300 and answer.status not in fine:
                    raise BrokerAdminError(_sentence(answer.status))
                return await answer.json(content_type=None) if answer.status == 200 else None
        except TimeoutError:
            raise BrokerAdminError("The broker's admin interface did not answer in time.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BrokerAdminError(
                f"The broker's admin interface cannot be reached ({type(error).__name__}): check PULSAR_ADMIN_URL."
            ) from None


def _path(topic: str) -> str:
    return topic.replace("://", "/", 1)


def _sentence(status: int) -> str:
    match status:
        case 401 | 403:
            return (
                f"The broker's admin interface refuses the controller ({status}): let its token administer the tenant."
            )
        case 404:
            return "The broker has no such tenant, namespace or topic (404): make the tenant and its namespaces."
    return f"The broker's admin interface answered {status}."
