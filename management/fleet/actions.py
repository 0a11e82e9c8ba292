"""What operators do: each action is written down before it begins, and what came of it after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, assert_never

from broker.interface import BrokerError, BrokerForbidden
from dead_letters.deciding import NoSuchLetter, discard_letter, replay_letter
from dead_letters.shelf import ShelfTaken
from dead_letters.trace import leave_trace
from management.fleet.overseer import order_of
from management.reading import fleet_queries, queries
from management.reading.fleet_questions import CancelAction, DiscardAction, FleetAction, ReplayAction
from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from store import actions as written
from store.database import reading, writing
from store.orders import Order, forget, give, standing
from wire import codec
from wire.errors import FleetError, InvalidName, NotFound
from wire.event import RequestData
from wire.order import CancelRequest
from wire.topics import segment

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from broker.interface import Broker
    from dead_letters.deciding import Replay
    from management.access import Person
    from management.fleet.nodes import NodeRegistry
    from management.fleet.overseer import Overseer
    from wire.presence import Presence
    from wire.topics import Topics

    AnyAction = FleetAction | CancelAction | ReplayAction | DiscardAction

log = Log("management")

ANSWER_S = 5.0
"""So long an action may take while its operator waits; after that he may ask what came of it."""
CANCEL_S = 4.0
"""So long after its cancel a request's end may take to be told."""
CANCEL_AGAIN_S = 1.0
LOOK_AGAIN_S = 0.1
DECIDED_S = 2.0
"""What an operator decides is in the ledger within this time."""
LOST_MS = 2 * 3600 * 1000
"""No action takes so long: whoever did it has ended."""
RUNNING_MAX = 100
"""Actions at once in this process."""


class Conflict(FleetError):
    """This cannot be done as things are."""

    code, http_status, type, retryable = "conflict", 409, "invalid_request_error", False


class Busy(FleetError):
    """Too many actions are under way. Try again later."""

    code, http_status, type, retryable = "overloaded", 503, "server_error", True


class BrokerAway(FleetError):
    """The broker cannot be reached at the moment. Try again shortly."""

    code, http_status, type, retryable = "queue_unavailable", 503, "server_error", True


class NotPermitted(FleetError):
    """The broker does not permit it to management: use the command, with the administrator's token."""

    code, http_status, type, retryable = "not_permitted", 409, "invalid_request_error", False


class Actions:
    """Does them. ``replay`` owns a request in place of a gateway; without it dead letters cannot be replayed here."""

    def __init__(
        self,
        engine: AsyncEngine,
        broker: Broker,
        topics: Topics,
        registry: NodeRegistry,
        overseer: Overseer,
        name: str,
        replay: Replay | None = None,
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._topics = topics
        self._registry = registry
        self._overseer = overseer
        self._name = name
        self._replay = replay
        self._tasks = Tasks(log)
        self._running: set[int] = set()

    async def act(self, person: Person, action: AnyAction) -> dict[str, Any]:
        """Do it, and return what is written down of it, at the latest after :data:`ANSWER_S`.

        Raises :class:`wire.errors.FleetError` where it failed by then, and the database's errors.
        """
        if len(self._running) >= RUNNING_MAX:
            raise Busy
        subject = self._meant(action) if isinstance(action, FleetAction) else action.request_id
        row = {
            "at_ms": now_ms(),
            "by": person.name,
            "action": action.action,
            "scope": action.scope if isinstance(action, FleetAction) else "request",
            "subject": subject,
            "reason": action.reason,
        }
        async with writing(self._engine) as connection:
            action_id = await written.begin(connection, row)
        self._running.add(action_id)
        task = self._tasks.start(self._see_through(action_id, person, action, subject), action.action)
        await asyncio.wait({task}, timeout=ANSWER_S)
        if task.done() and (failed := task.result()) is not None:
            raise failed
        shown = await self.one(action_id)
        assert shown is not None
        return shown

    async def one(self, action_id: int) -> dict[str, Any] | None:
        """What is written down of one."""
        async with reading(self._engine) as connection:
            row = await written.one(connection, action_id)
        return action_shown(row, now_ms()) if row is not None else None

    async def aclose(self) -> None:
        """Stop what is under way, and write that down."""
        running = list(self._running)
        await self._tasks.aclose()
        for action_id in running:
            await self._end(action_id, "failed", "Management stopped before it was done.")

    async def _see_through(self, action_id: int, person: Person, action: AnyAction, subject: str) -> FleetError | None:
        """Until it is done; what made it fail."""
        failed: FleetError | None = None
        try:
            outcome = await self._do(person, action, subject)
        except FleetError as error:
            failed = error
        except BrokerForbidden:
            failed = NotPermitted()
        except BrokerError:
            failed = BrokerAway()
        except Exception as error:
            log.error("An action failed.", error=error, action="action_failed", number=action_id)
            failed = FleetError()
        await self._end(action_id, "failed" if failed else "done", failed.message if failed else outcome)
        log.info("An operator acts.", action=action.action, by=person.name, subject=subject, failed=failed is not None)
        self._running.discard(action_id)
        return failed

    async def _end(self, action_id: int, state: written.State, outcome: str) -> None:
        try:
            async with writing(self._engine) as connection:
                await written.end(connection, action_id, state, outcome, now_ms())
        except Exception as error:
            # It stays "running", and becomes "unknown": what was done cannot be undone for the sake of the list.
            log.error("An action's end cannot be written down.", error=error, action="action_lost", number=action_id)

    async def _do(self, person: Person, action: AnyAction, subject: str) -> str:
        match action:
            case FleetAction():
                return await self._order(person, action, subject)
            case CancelAction(request_id=request_id):
                return await self._cancel(request_id)
            case ReplayAction() | DiscardAction():
                return await self._decide(action)
            case _:
                assert_never(action)

    async def _order(self, person: Person, action: FleetAction, subject: str) -> str:
        if action.scope == "model":
            _check_model(subject)
        nodes = self._nodes_of(action.scope, subject)
        async with writing(self._engine) as connection:
            known = await standing(connection)
            self._check(action, subject, nodes, known)
            to = [subject] if action.action != "drain" else [node.node for node in nodes]
            scope = "node" if action.action == "drain" else action.scope
            await give(
                connection,
                [
                    Order(
                        scope=scope,
                        subject=each,
                        order=action.action,
                        by=person.name,
                        at_ms=now_ms(),
                        reason=action.reason,
                    )
                    for each in to
                ],
            )
            await forget(connection, [presence.node for presence, _ in self._registry.present()], now_ms())
        await self._overseer.look()
        if not nodes:
            return "No node of it is there now: it holds for those that come."
        return (
            f"It holds for {len(nodes)} nodes that are there." if nodes[1:] else "It holds for the node that is there."
        )

    def _check(
        self, action: FleetAction, subject: str, nodes: list[Presence], known: dict[tuple[str, str], Order]
    ) -> None:
        """Raises where this order means nothing."""
        has_order = action.action == "resume" and (action.scope, subject) in known
        if not nodes and action.action != "pause" and not has_order:
            raise NotFound(f"No node of {subject!r} is there, and no order holds for it.")
        if action.scope != "node" or action.action == "drain":
            return
        (node,) = nodes
        leaving = known.get(("node", subject))
        if node.state == "draining" or (leaving is not None and leaving.order == "drain"):
            raise Conflict("This node leaves: it finishes what it has begun, and then it is gone.")
        of_model = order_of("", node.model, known)
        if action.action == "resume" and of_model is not None and of_model.order == "pause":
            raise Conflict(f"The model {node.model!r} is paused by {of_model.by}: resume the model.")

    def _meant(self, action: FleetAction) -> str:
        try:
            return self._node(action.subject) if action.scope == "node" else action.subject
        except FleetError:
            return action.subject  # it will fail, and that is written down

    def _node(self, name: str) -> str:
        """The incarnation that is meant. Raises :class:`wire.errors.NotFound` and :class:`Conflict`."""
        if self._registry.get(name) is not None:
            return name
        found = [presence.node for presence, _ in self._registry.present() if presence.name == name]
        if len(found) > 1:
            raise Conflict(
                f"{len(found)} nodes are called {name!r}. Name one of them: {', '.join(sorted(found)[:10])}."
            )
        if not found:
            models = {presence.model for presence, _ in self._registry.present()}
            hint = " It is a model: for all of its nodes say scope 'model', or --model." if name in models else ""
            raise NotFound(f"No node {name!r} is there.{hint}")
        return found[0]

    def _nodes_of(self, scope: str, subject: str) -> list[Presence]:
        if scope == "model":
            return [presence for presence, _ in self._registry.present() if presence.model == subject]
        node = self._registry.get(self._node(subject))
        return [node] if node is not None else []

    async def _cancel(self, request_id: str) -> str:
        if (status := await self._status_of(request_id)) is not None:
            raise Conflict(f"This request has ended already: {status}.")
        message = codec.encode(CancelRequest(sender=self._name, request_id=request_id))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        said_at = float("-inf")
        producer = await self._broker.producer(self._topics.orders)
        try:
            while loop.time() - begun < CANCEL_S:
                if loop.time() - said_at >= CANCEL_AGAIN_S:
                    said_at = loop.time()
                    await producer.send(message)
                await asyncio.sleep(LOOK_AGAIN_S)
                if (status := await self._status_of(request_id)) is not None:
                    return f"The request has ended: {status}."
        finally:
            await producer.aclose()
        raise NotFound("No gateway has told the end of this request: none has it open, or its node is silent.")

    async def _is_discarded(self, request_id: str) -> bool:
        """Whether someone has let it go: what they decided may still be on its way to the ledger."""
        until = asyncio.get_running_loop().time() + DECIDED_S
        while True:
            async with reading(self._engine) as connection:
                if await connection.scalar(fleet_queries.discarded(request_id)) is not None:
                    return True
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _status_of(self, request_id: str) -> str | None:
        async with reading(self._engine) as connection:
            end = (await connection.execute(queries.end_of(request_id))).mappings().one_or_none()
        return end["status"] if end is not None else None

    async def _decide(self, action: ReplayAction | DiscardAction) -> str:
        request_id = action.request_id
        async with reading(self._engine) as connection:
            end = (await connection.execute(queries.end_of(request_id))).mappings().one_or_none()
        if end is None:
            raise NotFound("Nothing is known of this request.")
        try:
            if isinstance(action, DiscardAction):
                await discard_letter(self._broker, self._topics, end["model"], request_id)
                return "Its letter is removed."
            if self._replay is None:
                raise Conflict("This management cannot replay: start it by 'fleet management', or use the command.")
            done = await replay_letter(
                self._broker, self._topics, end["model"], request_id, action.timeout_s, self._replay
            )
        except NoSuchLetter:
            is_listed = isinstance(action, DiscardAction) and end["status"] == "dead"
            if not is_listed or await self._is_discarded(request_id):
                raise NotFound("There is no dead letter of this request.") from None
            # The broker has lost it: what only the ledger knows of would else wait for ever.
            lost = RequestData(
                request_id=request_id, endpoint="", model=end["model"], status="dead", key_id=end["key_id"]
            )
            await leave_trace(self._broker, self._topics, "request.discarded", lost)
            return "The broker had no letter of it any more; the ledger does not list it from here on."
        except ShelfTaken:
            raise Conflict("Someone else looks at the dead letters of this model now.") from None
        left = "removed" if done.letter_done else "kept"
        if done.status == "answered":
            return f"Answered, and charged to its client. Its letter is {left}."
        # Its code only: a provider's words may repeat the prompt.
        code = f" ({done.error[0]})" if done.error else ""
        raise Conflict(f"It was {done.status} again{code}, and its letter is {left}.")


def action_shown(row: dict[str, Any], now: int) -> dict[str, Any]:
    """As the REST API answers it."""
    lost = row["state"] == "running" and row["at_ms"] < now - LOST_MS
    return row | {"state": "unknown"} if lost else row


def _check_model(name: str) -> None:
    try:
        segment(name)
    except InvalidName as error:
        raise NotFound(error.message) from None
