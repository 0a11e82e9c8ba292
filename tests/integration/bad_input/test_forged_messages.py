"""Messages that are none of ours, or lie: put aside, acknowledged and counted once; nobody is charged or harmed."""

from __future__ import annotations

import hashlib
import pickle
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from broker.interface import PAYLOAD_BYTES_MAX
from gateway.settings import GatewaySettings
from process.settings import load
from tests.billing import billed
from tests.integration.test_ends import get
from tests.integration.test_main_job import charges, client_of, known, whole
from tests.waiting import until
from wire import codec
from wire.backlog import BacklogReport, ModelBacklog
from wire.control import COUNT_PROMPTS_MAX, Accepted, ControlMessage, CountTokens, Go, Settle, Stop
from wire.order import CancelRequest
from wire.piece import Content, Counted, Finished, LinkMessage, Settled, Started
from wire.presence import Presence, RunningRequest
from wire.request import Request
from wire.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running

RUBBISH = (
    b"",
    b"\x00",
    b"\x01",
    b"\x01\xff",
    b"\x02" + b"x" * 10,
    pickle.dumps({"kind": "request"}),
    b"{}",
    b"\x01\x80",
    b"\x01" * 1_000_000,
    b"x" * PAYLOAD_BYTES_MAX,
)
ATTEMPT = "attempt-of-nobody"
CHARGE = billed(1)


def requests(model: str) -> list[bytes]:
    """With times and gateways that cannot be."""
    good: dict[str, Any] = {
        "request_id": "req_" + "0" * 32,
        "model": model,
        "endpoint": "chat/completions",
        "body": b"{}",
        "gateway": "gateway-nobody",
        "received_ms": 1,
        "deadline_ms": 2,
    }
    wrong: list[dict[str, Any]] = [
        {"received_ms": -1},
        {"deadline_ms": 2**63},
        {"request_id": "x"},
        {"endpoint": "../x"},
        {"gateway": "../x"},
        {"gateway": "a/b/c://d"},
        {"body": "text"},
    ]
    return [codec.encode(Request(**{**good, **fields})) for fields in wrong]


def link_messages() -> tuple[list[bytes], int]:
    """Frames about attempts that nobody knows, and how many words of them cannot be read."""
    known_words: list[Any] = [
        Started(attempt_id=ATTEMPT, request_id="req_of_nobody"),
        Content(attempt_id=ATTEMPT, number=1, data=b"x"),
        Finished(attempt_id=ATTEMPT, number=2, usage=Usage(), charge=CHARGE),
        Settled(attempt_id=ATTEMPT, request_id="req_of_nobody"),
        Counted(question_id="qst_of_nobody", tokens=[1]),
    ]
    unreadable: list[Any] = [
        Content(attempt_id=ATTEMPT, number=-1, data=b"x"),
        Finished(attempt_id=ATTEMPT, number=3, usage=Usage(prompt_tokens=-5), charge=CHARGE),
        Finished(attempt_id=ATTEMPT, number=3, usage=Usage(prompt_tokens=2**63), charge=CHARGE),
        Counted(question_id="qst_of_nobody", tokens=[-1]),
    ]
    frames = [codec.encode_frame(frame) for frame in known_words + unreadable]
    told = LinkMessage(node="node-forged", line=1, first=1, frames=[msgspec.Raw(frame) for frame in frames])
    return [codec.encode(told), codec.encode(LinkMessage(node="../x", line=1, first=1, frames=[]))], len(unreadable) + 1


def control_messages() -> tuple[list[bytes], int]:
    """Words about attempts that nobody knows, and how many of them cannot be read."""
    words: list[Any] = [
        Go(attempt_id=ATTEMPT, number=1, remaining_ms=1),
        Accepted(attempt_id=ATTEMPT),
        Settle(attempt_id=ATTEMPT, charge=CHARGE),
        Stop(attempt_id=ATTEMPT, reason="poison"),
        CountTokens(question_id="qst_of_nobody", prompts=["a"]),
    ]
    unreadable = [
        msgspec.Raw(b"\x81\xa4kind\xa4nope"),
        codec.encode_word(CountTokens(question_id="qst_of_nobody", prompts=["a"] * (COUNT_PROMPTS_MAX + 1))),
    ]
    told = ControlMessage(sender="gateway-forged", words=[*(codec.encode_word(word) for word in words), *unreadable])
    nowhere = ControlMessage(sender="../x", words=[codec.encode_word(words[-1])])
    return [codec.encode(told), codec.encode(nowhere)], len(unreadable)


def presences(model: str) -> list[bytes]:
    """Nodes that cannot be."""
    good: dict[str, Any] = {
        "node": "node-forged",
        "name": "forged",
        "model": model,
        "type": "static",
        "version": "1",
        "state": "ready",
        "slots": 1,
        "sent_ms": 1,
        "started_ms": 1,
    }
    wrong: list[dict[str, Any]] = [
        {"slots": -1},
        {"slots": 2**63},
        {"busy": "x"},
        {"model": "a\r\nb"},
        {"model": ""},
        {"state": "\x1b[31m"},
        {"sent_ms": -1},
        {"running": tuple(RunningRequest(request_id="req_1", taken_ms=1) for _ in range(21))},
    ]
    return [codec.encode(Presence(**{**good, **fields})) for fields in wrong]


def reports(model: str) -> list[bytes]:
    """What no gateway can have open."""
    wrong: list[dict[str, Any]] = [{"waiting": -1}, {"running": 2**63}, {"model": 7}]
    return [
        codec.encode(
            BacklogReport(gateway="gateway-forged", sent_ms=1, models=(ModelBacklog(**{"model": model} | each),))
        )
        for each in wrong
    ]


def events() -> list[bytes]:
    """Charges that cannot be."""
    charge = billed(2, usage=Usage(prompt_tokens=77))
    return [charge.replace(b":77", b":-7"), charge.replace(b":77", b":%d" % 2**63), charge.replace(b'"source"', b'"x"')]


async def figure(role: Running, name: str) -> float:
    """The sum of a counter over its labels named in ``name``."""
    async with aiohttp.ClientSession() as session, session.get(f"{role.url}/metrics") as response:
        text = await response.text()
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


async def test_what_is_forged_on_any_topic_is_put_aside_once_and_harms_nobody(
    fleet: InProcessFleet, tmp_path: Path
) -> None:
    topics = load(GatewaySettings, fleet._common).topics
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    called: list[bytes] = []
    heard: list[bytes] = []
    await management.broker.listen(topics.roll_call, called.append, waiting_max=100)
    await management.broker.listen(topics.presence, heard.append, waiting_max=100)
    gateway = await fleet.gateway()
    node = await fleet.node()
    gateway_id = codec.decode_roll_call((await until(lambda: called))[0]).sender
    node_id = codec.decode_presence((await until(lambda: heard))[0]).node
    await known(gateway, node.model)

    in_link, link_unread = link_messages()
    in_control, control_unread = control_messages()
    forged = {
        topics.requests(node.model): requests(node.model),
        topics.link(gateway_id): in_link,
        topics.control(node_id): in_control,
        topics.presence: presences(node.model),
        topics.backlog: reports(node.model),
        topics.roll_call: [],
        topics.orders: [codec.encode(CancelRequest(sender="management-forged", request_id="req_of_nobody"))],
        topics.results: events(),
    }
    for topic, messages in forged.items():
        producer = await management.broker.producer(topic)
        for message in (*RUBBISH, *messages):
            await producer.send(message)
        await producer.aclose()

    expected = {
        "requests": (node, 'workernode_undecodable_messages_total{topic="requests"}', len(RUBBISH) + 7),
        "control": (node, 'workernode_undecodable_messages_total{topic="control"}', len(RUBBISH) + control_unread),
        "link": (gateway, 'gateway_undecodable_messages_total{topic="link"}', len(RUBBISH) + link_unread),
        "presence": (gateway, 'gateway_undecodable_messages_total{topic="presence"}', len(RUBBISH) + 8),
        "backlog": (gateway, 'gateway_undecodable_messages_total{topic="backlog"}', len(RUBBISH) + 3),
        "orders": (gateway, 'gateway_undecodable_messages_total{topic="orders"}', len(RUBBISH)),
        "backlogs": (management, 'management_undecodable_messages_total{topic="backlog"}', len(RUBBISH) + 3),
        "heartbeats": (management, 'management_undecodable_messages_total{topic="presence"}', len(RUBBISH) + 8),
        "results": (management, "ledger_quarantined_total", len(RUBBISH) + 3),
    }

    async def counted() -> dict[str, float]:
        return {topic: await figure(role, name) for topic, (role, name, _) in expected.items()}

    wanted = {topic: float(count) for topic, (_, _, count) in expected.items()}

    async def all_counted() -> bool:
        return await counted() == wanted

    try:
        await until(all_counted)
    except AssertionError:
        assert await counted() == wanted
    async with client_of(gateway) as client:
        for _ in range(3):
            assert await whole(client, node.model, "hello")
    assert len(await charges(management, 3)) == 3
    assert await counted() == wanted, "what was put aside never comes again"
    told = (await get(management, "events?type=node.quarantined"))["data"]
    digests = {hashlib.sha256(message).hexdigest() for message in (*RUBBISH, *requests(node.model))}
    assert {re.findall(r"[0-9a-f]{64}", each["event"]["data"]["message"])[0] for each in told} == digests
