"""Where bad input goes: a gateway with nodes behind it on one broker, and what they published."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from tests.integration.bad_input.rows import CANARY, Row, good
from tests.raw_http import KEY, Answer, exchange, post

if TYPE_CHECKING:
    from tests.fake_upstream import FakeUpstream
    from tests.in_process import InProcessFleet
    from tests.scripted_engine import ScriptedEngine
    from tests.watched_broker import Watch

SCRIPTED = "scripted"
REMOTE = "remote"
ERROR_BYTES_MAX = 32 * 1024
HURRIED_S = 10.0
"""What others on the machine may add to the time of a refusal; to the processor's time for it they add nothing."""


class Place:
    """A gateway, a static node, one whose answers a test writes, and one with a provider."""

    def __init__(
        self, fleet: InProcessFleet, watch: Watch, port: int, engine: ScriptedEngine, upstream: FakeUpstream
    ) -> None:
        self.fleet, self.watch, self.port, self.engine, self.upstream = fleet, watch, port, engine, upstream
        self.scripted, self.remote = f"{SCRIPTED}-{fleet.model}", f"{REMOTE}-{fleet.model}"
        """The models of the other two."""
        self.revoked = self.narrow = ""
        """Keys: one that was revoked, and one that may use another model only."""

    async def serves(self) -> None:
        """A good request gets its answer."""
        answer = await exchange(self.port, post(good()))
        assert answer.status == 200, answer
        assert json.loads(answer.body)["choices"][0]["message"]["content"]

    async def refuses(self, row: Row) -> Answer:
        """What is wrong is told in OpenAI's shape, nothing is published or made, and the next one is served."""
        await self.serves()
        requests, made = self.watch.requests, set(self.watch.made)
        began, busy = time.monotonic(), time.process_time()
        answer = await exchange(self.port, row.request)
        took_s, busy_s = time.monotonic() - began, time.process_time() - busy
        assert answer.status == row.status, answer
        assert (answer.error["code"], answer.error["param"]) == (row.code, row.param), answer.error
        assert answer.error["type"] == "invalid_request_error"
        assert len(answer.body) <= ERROR_BYTES_MAX
        assert CANARY not in str(answer)
        assert KEY not in str(answer)
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["content-type"] == "application/json"
        assert ("www-authenticate" in answer.headers) == (row.status == 401)
        assert busy_s < row.within_s
        assert took_s < row.within_s + HURRIED_S
        assert self.watch.requests == requests
        assert self.watch.made == made
        await self.serves()
        return answer

    async def stream(self, *steps: Any) -> Answer:
        """A stream of an answer that goes through ``steps``."""
        self.engine.steps = steps
        return await exchange(self.port, post(good(model=self.scripted, stream=True)))
