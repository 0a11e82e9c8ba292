"""A declared model from no node to three and back, under real requests through a real Pulsar: none is lost."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream, oracle_text
from tests.kube.controlled import Controlled
from tests.kube.keda_stand_in import KedaStandIn
from tests.kube.node_process import NodeProcess
from tests.kube.stand_in import StandIn
from tests.processes import Processes
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.api_server import ApiServer
    from tests.pulsar_server import PulsarServer

pytestmark = [pytest.mark.kube, pytest.mark.pulsar]

KEY = "the-providers-key"
SHORT = "tokens=20 delay-between=0.02"
LONG = "tokens=80 delay-between=0.1"
SLOTS, WAITING = 2, 1


@pytest.mark.timeout(180)
async def test_a_model_scales_from_zero_to_three_nodes_and_back_and_no_request_is_lost(
    api_server: ApiServer, namespace: str, pulsar_server: PulsarServer, tmp_path: Path
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    results = f"results-{model}"
    nodes: list[NodeProcess] = []

    def start(pod: dict[str, Any]) -> NodeProcess:
        nodes.append(NodeProcess(api_server, namespace, pod, tmp_path))
        return nodes[-1]

    common = {"PULSAR_URL": pulsar_server.url, "RES_TOPIC_NAME": results, "MODELS": model}
    secret = {"metadata": {"name": "provider"}, "data": {"api-key": base64.b64encode(KEY.encode()).decode()}}
    async with (
        FakeUpstream(api_key=KEY, models=(model,)) as upstream,
        Controlled(api_server, namespace, pulsar_server, RES_TOPIC_NAME=results) as cluster,
        Processes(tmp_path, common) as processes,
        aiohttp.ClientSession() as session,
    ):
        try:
            await cluster.ask("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
            await cluster.declare(
                "model",
                {
                    "type": "remote",
                    "model": model,
                    "remote": {"apiURL": upstream.url, "apiKeySecret": {"name": "provider", "key": "api-key"}},
                    "slots": SLOTS,
                    "waitingPerSlot": WAITING,
                    "maxReplicas": 3,
                    "cooldownSeconds": 1,
                    "gracePeriodSeconds": 60,
                },
            )
            cluster.start()
            gateway = await processes.gateway()
            await cluster.becomes("model", "ScaledToZero")
            async with (
                KedaStandIn(api_server, namespace, "aimodel-model") as keda,
                StandIn(api_server, namespace, start) as kubelet,
            ):
                ask = Asker(session, gateway.url, model)
                # A request for a model without a node waits for one and is answered by it.
                await ask.all([SHORT])
                assert keda.said == [1]
                # More than two nodes' share of the queue, so there are three; the long ones outlive the short ones.
                long = asyncio.create_task(ask.all([LONG] * (3 * SLOTS)))
                short = asyncio.create_task(ask.all([SHORT] * 8))
                await until(lambda: kubelet.most.get("aimodel-model") == 3, within_s=30)
                await short
                # What is under way is less than three nodes' share: one goes, and finishes before that what it has.
                await until(lambda: keda.said[-1] < 3, within_s=30)
                assert not long.done()
                await long
                assert max(keda.said) == 3
                assert any(left_busy(node) for node in nodes)
                await cluster.becomes("model", "ScaledToZero", within_s=40)
                await until(lambda: all(node.ended for node in nodes), within_s=30)
                assert keda.said[-1] == 0
                assert [node.exit_code for node in nodes] == [0] * len(nodes)
                # And once more, for whoever comes later.
                await ask.all([SHORT])
        finally:
            for node in nodes:
                node.kill()
        assert upstream.aborted == 0
        assert upstream.answered == len(upstream.requests) == ask.asked


def left_busy(node: NodeProcess) -> bool:
    """Whether a node was told to leave while it worked."""
    lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    return any(line.get("action") == "draining" and line["busy"] for line in lines)


class Asker:
    """A client that believes nothing: each answer is compared with what the provider says to its prompt."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session = session
        self._url = f"{url}/v1/chat/completions"
        self._model = model
        self.asked = 0

    async def all(self, words: list[str]) -> None:
        """Ask all at once, half of them for streams, and return when each has its whole answer."""
        prompts = [f"r{self.asked + number} {each}" for number, each in enumerate(words)]
        self.asked += len(words)
        await asyncio.gather(*(self._ask(prompt, stream=i % 2 == 0) for i, prompt in enumerate(prompts)))

    async def _ask(self, prompt: str, *, stream: bool) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": prompt}], "stream": stream}
        assert await self._answer(body) == oracle_text(body), prompt

    async def _answer(self, body: dict[str, Any]) -> str:
        async with self._session.post(self._url, json=body) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        if not body["stream"]:
            return str(json.loads(text)["choices"][0]["message"]["content"])
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]", text[-500:]
        chunks = [json.loads(event) for event in events[:-1]]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
