"""A month of a small fleet, told as nodes tell it: for pictures of the dashboard, and for tests that look at its pages.

The same seed gives the same ledger, but for its times: they end now.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from store import database
from store.budgets import Budget, BudgetId, put
from store.database import writing
from store.keys import KeyLimits, NewSecret, create, revoke
from wire import codec
from wire.backlog import BacklogReport, ModelBacklog
from wire.event import PREFIX, Event, NodeData, PromptData, RequestData, Times, attempt_event_id, charge_id
from wire.presence import Presence, RunningRequest
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_MS = 86_400_000
DAYS = 30
PRICES = """
[[price]]
model = "gpt-4o"
currency = "USD"
input = 2.50
cached_input = 1.25
output = 10
[[price]]
model = "mistral-small"
currency = "USD"
input = 0.20
output = 0.60
[[price]]
model = "llama-3.3-70b"
currency = "USD"
input = 0.59
output = 0.79
[[cost]]
model = "gpt-4o"
currency = "USD"
input = 1.80
output = 7.20
[[cost]]
model = "mistral-small"
currency = "USD"
input = 0.10
output = 0.30
"""
MODELS = {
    "gpt-4o": (0.42, "api.openai.com", "remote"),
    "mistral-small": (0.33, "api.mistral.ai", "remote"),
    "llama-3.3-70b": (0.2, None, "local"),
    "embed-large": (0.05, "api.openai.com", "remote"),
}
"""Part of all requests, provider, and type of node."""
KEYS = {"search": "retrieval", "assistant": "support", "batch-nightly": "research", "playground": "research"}
"""And the team of each."""
CLIENTS = ("OpenAI/Python 2.3.0", "openai-node/6.1.0", "langchain-openai/1.0", "curl/8.5.0")


class SampleLedger:
    """``events`` are what is told, ``presences`` who is there. ``now_ms`` is when the month ends."""

    def __init__(self, now_ms: int, *, requests: int = 1200, seed: int = 7) -> None:
        self.now_ms = now_ms
        self._requests = requests
        self._chance = random.Random(seed)
        self.shown: dict[str, str] = {}
        """Ids of requests that are worth a look, by what is to be seen."""

    @property
    def iso(self) -> str:
        """When the month ends, as events write it."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC).isoformat(timespec="milliseconds")

    def events(self) -> Iterator[bytes]:
        """The oldest first."""
        chance = self._chance
        for number in range(self._requests):
            age = ((self._requests - number) / self._requests) ** 1.6 * (DAYS - 0.5) * DAY_MS
            age *= 0.97 + 0.03 * chance.random()
            model = chance.choices(list(MODELS), [part for part, _, _ in MODELS.values()])[0]
            yield from self._request(round(self.now_ms - age), model)
        yield from self._troubles()

    def presences(self) -> list[Presence]:
        """One heartbeat of each node."""
        quota = "The provider says that the quota of this key is used up. Add credit or set another API_KEY."
        limited = "The provider allows 500 requests a minute; the next one is tried when the minute is over."
        return [
            self._presence("gpt-4o-eu-1", "gpt-4o", slots=16, busy=11, service_ms=2350),
            self._presence("gpt-4o-eu-2", "gpt-4o", slots=16, busy=9, service_ms=2410),
            self._presence("gpt-4o-us-1", "gpt-4o", "quota_exhausted", slots=16, sentence=quota),
            self._presence("mistral-1", "mistral-small", slots=32, busy=6, service_ms=1120),
            self._presence(
                "mistral-2", "mistral-small", "rate_limited", slots=32, busy=2, service_ms=1180,
                sentence=limited, until_ms=self.now_ms + 38_000,
            ),
            self._presence("rack2-gpu0", "llama-3.3-70b", slots=8, busy=8, service_ms=5200, context_length=131_072),
            self._presence("rack2-gpu1", "llama-3.3-70b", "starting", slots=8),
        ]  # fmt: skip

    def backlogs(self) -> list[BacklogReport]:
        """What a gateway has open, a moment ago and now."""
        flow = {"gpt-4o": (3, 20, 55), "mistral-small": (0, 8, 96), "llama-3.3-70b": (6, 8, 21)}
        now = [
            ModelBacklog(model=model, waiting=waiting, running=running, accepted=accepted, taken=accepted - waiting,
                         oldest_ms=self.now_ms - 2_600 if waiting else None)
            for model, (waiting, running, accepted) in flow.items()
        ]  # fmt: skip
        return [
            BacklogReport(gateway="gateway-edge-3-0000000000000001", sent_ms=self.now_ms, models=models)
            for models in (tuple(ModelBacklog(model=model) for model in flow), tuple(now))
        ]

    def node_id(self, name: str) -> str:
        """A start of this node."""
        return f"node-{name}-{random.Random(name).randbytes(8).hex()}"

    def _presence(self, name: str, model: str, state: Any = "ready", **fields: Any) -> Presence:
        _, provider, type_ = MODELS[model]
        return Presence(
            node=self.node_id(name),
            name=name,
            model=model,
            type=type_,  # type: ignore[arg-type]
            version="0.1.0",
            state=state,
            sent_ms=self.now_ms,
            started_ms=self.now_ms - round(3.4 * DAY_MS),
            since_ms=self.now_ms - 240_000,
            host="rack2" if type_ == "local" else "edge-3",
            running=tuple(
                RunningRequest(request_id=f"req_{random.Random(name + str(one)).randbytes(16).hex()}", taken_ms=taken)
                for one in range(min(fields.get("busy", 0), 3))
                for taken in [self.now_ms - 4_000 + 900 * one]
            ),
            provider=provider,
            **fields,
        )

    def _request(self, end_ms: int, model: str) -> Iterator[bytes]:
        chance = self._chance
        id_ = f"req_{chance.randbytes(16).hex()}"
        names = [each.name for each in self.presences() if each.model == model] or ["embed-1"]
        luck = chance.random()
        if luck < 0.02:
            status = chance.choice(("failed", "expired", "cancelled", "abandoned"))
            message = {
                "failed": "The provider did not answer in time.",
                "expired": "The request was not answered before its deadline.",
                "cancelled": "Its client hung up while it waited.",
                "abandoned": "Its gateway was gone before any node began it.",
            }[status]
            code = {"failed": "upstream_timeout", "expired": "deadline_exceeded"}.get(status)
            data = self._data(
                id_, model, names[0], end_ms, status=status, message=message, error_code=code, usage=Usage()
            )
            yield told(f"request.{status}", f"{status}-{id_}", end_ms, id_, codec.encode_event_data(data))
            self.shown.setdefault(status, id_)
            return
        if luck < 0.06:
            # An attempt was lost on the way: the next one answered.
            lost = self._data(id_, model, names[-1], end_ms - 2600, status="superseded", attempt=1, finish_reason=None)
            assert lost.attempt_id is not None
            yield told(
                "request.cost", attempt_event_id("request.cost", lost.attempt_id), end_ms - 2000, id_,
                codec.encode_event_data(lost),
            )  # fmt: skip
            data = self._data(id_, model, names[0], end_ms, attempt=2, received_before_ms=3200)
            self.shown["retried"] = id_
        else:
            data = self._data(id_, model, chance.choice(names), end_ms)
            self.shown["answered"] = id_
        yield told("request.billed", charge_id(id_), end_ms + 4, id_, codec.encode_event_data(data))

    def _data(
        self, id_: str, model: str, name: str, end_ms: int, *, received_before_ms: int = 0, **fields: Any
    ) -> RequestData:
        chance = self._chance
        _, provider, type_ = MODELS[model]
        embeds = model.startswith("embed")
        wait, first, rest = chance.randrange(2, 240), chance.randrange(120, 700), chance.randrange(200, 4200)
        key = chance.choices(list(KEYS), [5, 3, 2, 1])[0]
        prompt, answer = chance.randrange(40, 6000), 0 if embeds else chance.randrange(20, 1400)
        cached = prompt // 2 if model == "gpt-4o" and chance.random() < 0.3 else 0
        taken = end_ms - rest - first
        received = taken - wait - received_before_ms
        told_: dict[str, Any] = {
            "request_id": id_,
            "endpoint": "embeddings" if embeds else "chat/completions",
            "model": model,
            "status": "answered",
            "stream": not embeds,
            "attempt_id": f"att_{chance.randbytes(12).hex()}",
            "attempt": 1,
            "usage": Usage(prompt_tokens=prompt, completion_tokens=answer, cached_tokens=cached),
            "times": Times(
                received_ms=received,
                published_ms=received + 3,
                taken_ms=taken,
                first_token_ms=taken + first,
                last_token_ms=end_ms - 6,
                settled_ms=end_ms,
            ),
            "finish_reason": "stop",
            "key_id": key,
            "user_agent": chance.choice(CLIENTS),
            "node": self.node_id(name),
            "node_type": type_,
            "host": "rack2" if type_ == "local" else "edge-3",
            "version": "0.1.0",
            "upstream_model": model,
            "provider": provider,
            "body_bytes": prompt * 4,
            "answer_bytes": answer * 5,
            "max_tokens": 2048,
            "tags": {"team": KEYS[key]},
        }
        return RequestData(**(told_ | fields))

    def _troubles(self) -> Iterator[bytes]:
        now = self.now_ms
        for presence in self.presences():
            if presence.state in ("ready", "starting"):
                continue
            yield self._node_event(presence, f"node.{presence.state}", now - 240_000)
        id_ = f"req_{self._chance.randbytes(16).hex()}"
        for number, name in enumerate(("rack2-gpu0", "rack2-gpu1", "rack2-gpu0"), 1):
            data = self._data(
                id_, "llama-3.3-70b", name, now - 90_000 + number * 9_000, status="superseded", attempt=number,
                usage=Usage(), message="The node went silent while it worked on this request.",
                times=Times(
                    received_ms=now - 95_000, published_ms=now - 94_997,
                    taken_ms=now - 95_000 + number * 9_000, settled_ms=now - 90_000 + number * 9_000,
                ),
            )  # fmt: skip
            yield told("request.cost", f"cost-{data.attempt_id}", now - 60_000, id_, codec.encode_event_data(data))
        dead = self._data(
            id_, "llama-3.3-70b", "rack2-gpu1", now - 60_000, status="dead", usage=Usage(), attempt_id=None,
            attempt=None, message="Three nodes went silent one after the other while they worked on it.",
            error_code="request_poisonous", times=Times(received_ms=now - 95_000, published_ms=now - 94_997),
        )  # fmt: skip
        yield told("request.dead", f"dead-{id_}", now - 60_000, id_, codec.encode_event_data(dead))
        self.shown["dead"] = id_
        old = self._presence(
            "gpt-4o-eu-3", "gpt-4o", slots=16, sentence="It was asked to leave, finished its work and left."
        )
        yield self._node_event(old, "node.stopped", now - 7_200_000)
        prompt = PromptData(
            request_id=self.shown["answered"], model="gpt-4o", endpoint="chat/completions",
            body=b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}',
            body_bytes=86,
        )  # fmt: skip
        yield told("request.prompt", "prompt-1", now, self.shown["answered"], codec.encode_event_data(prompt))
        yield b"this is no event"

    def _node_event(self, presence: Presence, kind: str, time_ms: int) -> bytes:
        data = NodeData(
            node=presence.node, name=presence.name, model=presence.model, node_type=presence.type,
            version=presence.version, provider=presence.provider, message=presence.sentence, until_ms=presence.until_ms,
        )  # fmt: skip
        return told(kind, f"{kind}-{presence.node}", time_ms, presence.node, codec.encode_event_data(data))


async def add_keys_and_budgets(url: str, now_ms: int) -> None:
    """What people set, beside what is told."""
    engine = database.open(url)
    async with writing(engine) as connection:
        limits = {
            "search": KeyLimits(requests_per_min=600, models=("gpt-4o", "embed-large")),
            "assistant": KeyLimits(tokens_per_min=200_000, concurrent_max=40),
            "batch-nightly": KeyLimits(models=("mistral-small", "llama-3.3-70b")),
        }
        for number, (name, team) in enumerate(KEYS.items()):
            secret = NewSecret(f"{number:064x}", f"sk-fleet-{number}a7")
            created = now_ms - (40 + number) * DAY_MS
            expires = now_ms + 20 * DAY_MS if name == "assistant" else None
            await create(connection, name, secret, limits.get(name, KeyLimits()), created, expires, {"team": team})
        await revoke(connection, "playground", now_ms - DAY_MS)
        for id_, limit, warn in (
            (BudgetId("key", "search", "month"), 40, 80),
            (BudgetId("key", "assistant", "day"), 3, 80),
            (BudgetId("tag", "team=research", "month"), 1, 75),
            (BudgetId("model", "gpt-4o", "total"), 12, 80),
        ):
            budget = Budget(id=id_, currency="USD", amount_max=limit * 10**9, warn_percent=warn, created_ms=now_ms)
            await put(connection, budget)
    await engine.dispose()


def told(kind: str, id_: str, time_ms: int, subject: str, data: Any) -> bytes:
    """One event."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return codec.encode_event(
        Event(id=id_, source="/nodes/edge", type=PREFIX + kind, time=time, subject=subject, data=data)
    )
