"""What all pages are made from, and one visit to one of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.database import reading
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.requests import Request
    from starlette.responses import Response

    from management.fleet.actions import Actions
    from management.fleet.nodes import NodeRegistry
    from management.fleet.view import FleetView
    from management.ledger.books import Books
    from management.metrics import Metrics
    from management.pages.frame import Frame
    from management.pages.session import Viewer
    from management.readiness import Readiness


TOLD = "told"
"""The parameter that leads back from an action."""


@dataclass(frozen=True)
class Sources:
    """Where pages find what they show. Streams end when ``stop`` is set."""

    engine: AsyncEngine
    view: FleetView
    actions: Actions
    registry: NodeRegistry
    readiness: Readiness
    metrics: Metrics
    books: Books
    stop: asyncio.Event

    async def rows(self, *statements: Select[Any]) -> list[list[dict[str, Any]]]:
        """The rows of each statement, of one state of the database."""
        async with self.asking() as rows:
            return [await rows(each) for each in statements]

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Callable[[Select[Any]], Awaitable[list[dict[str, Any]]]]]:
        """Gives the rows of one statement after the other, all of one state of the database."""
        async with reading(self.engine) as connection:

            async def rows(statement: Select[Any]) -> list[dict[str, Any]]:
                return [dict(row) for row in (await connection.execute(statement)).mappings()]

            yield rows


@dataclass(frozen=True)
class Visit:
    """A page that was asked for, by somebody who may see it. ``form`` is what they sent, if anything; ``told`` is the
    action that they come from, as it is written down."""

    request: Request
    viewer: Viewer
    sources: Sources
    frame: Frame
    form: dict[str, str]
    told: dict[str, Any] | None = None

    @property
    def asked(self) -> dict[str, str]:
        """The parameters of the address; those that are empty count as absent, and of several the last counts.

        Raises :class:`InvalidRequest` for what PostgreSQL has no place for.
        """
        asked = self.request.query_params
        for name, value in asked.items():
            if "\0" in value:
                raise InvalidRequest(f"{name}: it must not contain U+0000.")
        return {name: value.strip() for name, value in asked.items() if value.strip() and name != TOLD}

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """The page, with these values in it."""
        return self.frame.page(self.request, self.viewer, template, status=status, told=self.told, **values)
