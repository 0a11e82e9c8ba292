"""Holds requests to the budgets of their key, their model and their tags.

What a request may come to cost is reserved in the database before it is queued; management settles it with the charge,
or releases it with another end, so that a gateway's death changes nothing. A request that touches no budget asks
nobody. Those that wait at the same time are reserved in one transaction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import Counter
from sqlalchemy.exc import DBAPIError

from gateway.keys.media import text_bytes
from process.identity import now_ms
from process.logging import Log
from store import amount
from store import budgets as table
from store.budgets import Ask, subjects_of
from store.database import writing
from store.prices import Use
from wire.errors import BudgetsUnavailable, InsufficientQuota

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.keys.keyring import Keyring
    from process.lifecycle import Tasks
    from store.budgets import Budget, BudgetId
    from store.prices import PriceList
    from wire.request import Request

log = Log("gateway")

WAIT_S = 5.0
ASKS_MAX = 50
"""Requests that are reserved in one transaction."""
HOLD_MS = 3_600_000
"""A request whose end nobody tells holds what it reserved for so long after its deadline."""
IMAGE_TOKENS_MAX = 16_384
"""Held for each image, whose bytes say nothing: more than models of today make of one, for what is used must not exceed
what was held."""
BODY_BYTES_PER_TOKEN_MIN = 2
"""What a token takes at least in the texts that people send: an estimate below what is used would overspend."""


class Budgets:
    """Asks the database, for requests that touch a budget."""

    def __init__(
        self,
        stored: Keyring,
        prices: PriceList,
        tasks: Tasks,
        registry: CollectorRegistry,
        *,
        answer_tokens: int,
        required: bool,
    ) -> None:
        """``answer_tokens`` are reserved for an answer that its request does not bound. ``required``: no request is
        admitted while the database was not heard for too long."""
        self._stored = stored
        self._prices = prices
        self._tasks = tasks
        self._answer_tokens = answer_tokens
        self._required = required
        self._waiting: list[tuple[Ask, asyncio.Future[Budget | None]]] = []
        self._works = False
        self._refused = Counter("gateway_budget_refusals", "Requests that a budget refused.", registry=registry)

    async def reserve(self, request: Request) -> None:
        """Reserve what it may cost. Raises :class:`wire.errors.InsufficientQuota`, and
        :class:`wire.errors.BudgetsUnavailable` where that cannot be known."""
        if self._required and not self._stored.is_known:
            raise BudgetsUnavailable(retry_after_ms=1000)
        budgets = self._touched(request)
        if not budgets:
            return
        ask = Ask(request.request_id, self._amounts(request, budgets), request.deadline_ms + HOLD_MS)
        answer: asyncio.Future[Budget | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if not self._works:
            self._works = True
            self._tasks.start(self._work(), "reserve")
        try:
            full = await answer
        except asyncio.CancelledError:
            self.release(request.request_id)
            raise
        if full is not None:
            self._refuse(_no_room(full))

    def release(self, request_id: str) -> None:
        """Nothing will ever be heard of this request."""
        if self._stored.budgets:
            self._tasks.start(self._release([request_id]), "release")

    def _touched(self, request: Request) -> list[Budget]:
        known = self._stored.budgets
        if not known:
            return []
        subjects = subjects_of(request.model, request.key_id, request.tags)
        return [budget for subject in subjects for budget in known.get(subject, ())]

    def _amounts(self, request: Request, budgets: list[Budget]) -> dict[BudgetId, int]:
        prices = self._prices.valid(request.model, request.received_ms)
        uses = self._uses(request)
        amounts: dict[BudgetId, int] = {}
        for budget in budgets:
            priced = [price for price in prices if price.currency == budget.currency]
            if not priced or not all(price.knows(use) for price in priced for use in uses):
                self._refuse(
                    f"There is a budget of {budget.id}, in {budget.currency}, and this model has no price in it "
                    "(PRICES_FILE): what the request costs could not be counted."
                )
            found = [price.amount(use) for price in priced for use in uses]
            if None in found:
                self._refuse(_no_room(budget))
            amounts[budget.id] = max(each for each in found if each is not None)
        return amounts

    def _uses(self, request: Request) -> list[Use]:
        prompt = -(-text_bytes(request.body) // BODY_BYTES_PER_TOKEN_MIN) + IMAGE_TOKENS_MAX * (request.images or 0)
        bound = self._answer_tokens if request.max_tokens is None else request.max_tokens
        answer = 0 if request.endpoint == "embeddings" else bound * request.generated
        # The dearest of them counts, whichever kind of token that is.
        return [
            Use(
                model=request.model,
                provider=None,
                time_ms=request.received_ms,
                prompt=prompt,
                completion=answer,
                cached=cached,
                reasoning=reasoning,
                images=request.images or 0,
            )
            for cached in (0, prompt)
            for reasoning in (0, answer)
        ]

    def _refuse(self, sentence: str) -> None:
        self._refused.inc()
        raise InsufficientQuota(sentence)

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:ASKS_MAX], self._waiting[ASKS_MAX:]
                await self._reserve(batch)
        finally:
            self._works = False

    async def _reserve(self, batch: list[tuple[Ask, asyncio.Future[Budget | None]]]) -> None:
        try:
            async with asyncio.timeout(WAIT_S), writing(self._stored.engine) as connection:
                answers = await table.reserve(connection, [ask for ask, _ in batch], now_ms())
        except Exception as error:
            # Whatever it is, the next second may be better. Those behind have waited as long, and would wait again.
            _tell_failure("Budgets cannot be asked.", error)
            behind, self._waiting = self._waiting, []
            for _, answer in (*batch, *behind):
                if not answer.done():
                    answer.set_exception(BudgetsUnavailable(retry_after_ms=1000))
            # Perhaps it was committed after all. Meanwhile others ask.
            self._tasks.start(self._release([ask.request_id for ask, _ in batch]), "release")
            return
        gone = [ask.request_id for ask, answer in batch if answer.done()]  # its client went while it waited
        for (_, answer), full in zip(batch, answers, strict=True):
            if not answer.done():
                answer.set_result(full)
        if gone:
            await self._release(gone)

    async def _release(self, request_ids: list[str]) -> None:
        try:
            async with asyncio.timeout(WAIT_S), writing(self._stored.engine) as connection:
                await table.release(connection, request_ids)
        except Exception as error:
            _tell_failure("What was reserved is held until it expires.", error)


def _tell_failure(sentence: str, error: Exception) -> None:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    log.warning(sentence, action="budgets_unavailable", reason=type(cause).__name__)


def _no_room(budget: Budget) -> str:
    size = f"{amount.shown(budget.amount_max)} {budget.currency}"
    return (
        f"The budget of {budget.id} has no room for this request. It is {size}, and less of it is left than the "
        "request may cost at most; max_tokens bounds that."
    )
