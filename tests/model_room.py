"""The model server's endpoints with steps that say what a test has written down."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from workernode.local.server.flags import read
from workernode.local.server.front.room import Room
from workernode.local.server.front.sending import Sender
from workernode.local.server.front.tokens import Tokens
from workernode.local.server.front.tools import format_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from workernode.local.server.words import Ready

    Endpoint = Callable[[Room, bytes, Sender], Awaitable[None]]


class ScriptedSteps:
    """Stands in for the client of the step process."""

    def __init__(self, *words: Any) -> None:
        self._words = list(words)
        self.asked: list[Any] = []

    @asynccontextmanager
    async def call(self) -> AsyncIterator[ScriptedSteps]:
        """Itself."""
        yield self

    def submit(self, make: Callable[[int], Any]) -> int:
        """Keeps what is asked for."""
        self.asked.append(make(len(self.asked)))
        return len(self.asked) - 1

    async def word(self) -> Any:
        """The next one written down."""
        return self._words.pop(0)


def room_of(ready: Ready, steps: ScriptedSteps, *flags: str) -> Room:
    """With that model and these words."""
    settings = read(["--model", "m", *flags], {})
    tokens = Tokens(ready, settings)
    client: Any = steps
    return Room(settings, client, ready, tokens, format_of(tokens.tool_template))


def answered(endpoint: Endpoint, room: Room, **fields: Any) -> Any:
    """The JSON of a whole answer, or of each chunk of a stream."""
    sent = bytearray()

    async def send(message: Any) -> None:
        sent.extend(message.get("body", b""))

    receive: Any = None
    asyncio.run(endpoint(room, json.dumps(fields).encode(), Sender(receive, send)))  # type: ignore[arg-type]
    if not fields.get("stream"):
        return json.loads(sent)
    events = sent.decode().removesuffix("\n\n").split("\n\n")
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]
