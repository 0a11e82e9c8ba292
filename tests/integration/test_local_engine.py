"""A node with a local model: its engine may die at any moment, and the node and its requests go on."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest
from openai import APIStatusError

import workernode.local.engine
import workernode.local.restarts
import workernode.local.slot_keeper
import workernode.local.slots
import workernode.local.supervisor
from broker.memory import MemoryBroker, MemoryServer
from tests import word_tokenizer
from tests.in_process import InProcessFleet, free_port
from tests.integration.test_main_job import asked, client_of, known, streamed, whole
from tests.local_model import LocalModel
from tests.stand_in_engine import text_of
from tests.waiting import until
from wire.event import PREFIX
from workernode.local.figures import Figures, figures_of
from workernode.remote.engine import RemoteEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.in_process import Running
    from workernode.local.figures import FigureNames


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModel]:
    model = LocalModel(tmp_path / "stand-in")
    monkeypatch.setenv("STAND_IN_DIR", str(model.directory))
    monkeypatch.setenv("SOME_SECRET", "for nobody")
    monkeypatch.setattr(workernode.local.restarts, "PAUSE_S_MIN", 0.05)
    monkeypatch.setattr(workernode.local.slot_keeper, "LOOK_EVERY_S", 0.1)
    yield model
    assert model.left() == []


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Figures]:
    """What the node has found each time it looked at its engine, which is often."""
    found: list[Figures] = []

    def noted(text: str, names: FigureNames) -> Figures:
        found.append(figures_of(text, names))
        return found[-1]

    monkeypatch.setattr(workernode.local.supervisor, "figures_of", noted)
    monkeypatch.setattr(workernode.local.supervisor, "LOOK_EVERY_S", 0.01)
    return found


async def told(port: int) -> dict[str, Any]:
    """What a node says of itself."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                body: dict[str, Any] = await response.json()
                return body
        except aiohttp.ClientError:
            return {}


async def says(port: int, **wanted: str) -> None:
    """Wait until it says so."""
    found: dict[str, Any] = {}

    async def so() -> bool:
        nonlocal found
        found = await told(port)
        return all(str(found.get(name, "")).startswith(value) for name, value in wanted.items())

    try:
        await until(so, within_s=60)
    except AssertionError:
        raise AssertionError(f"not {wanted}, but {found}") from None


@pytest.mark.parametrize("engine", ["llama-server", "llamafile", "vllm", "command"])
async def test_every_preset_starts_its_program_and_its_model_answers(
    local: LocalModel, fleet: InProcessFleet, engine: str
) -> None:
    preset = local.command() if engine == "command" else local.program(engine, MAX_BATCH="7", CONTEXT_LENGTH="512")
    gateway, node = await fleet.gateway(), await fleet.node(**preset)
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        assert await streamed(client, node.model, "tokens=3") == text_of(3)
        assert await whole(client, node.model, "tokens=4") == text_of(4)
    (start,) = local.starts
    assert "SOME_SECRET" not in start["environment"]
    assert "MODEL_PATH" not in start["environment"]
    if engine in ("llama-server", "llamafile"):
        assert "LLAMA_API_KEY" in start["environment"]
        assert " ".join(start["argv"]).endswith("--parallel 7 --metrics --ctx-size 3584")
    if engine == "vllm":
        assert "VLLM_API_KEY" in start["environment"]
        assert start["argv"][:2] == ["serve", "/models/some.gguf"]
    await node.end()
    assert local.left() == []


async def test_a_model_that_loads_is_told_step_by_step_and_gets_no_work(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    port = free_port()
    local.say("stage", "downloading 0.37")
    starting = asyncio.ensure_future(fleet.node(**local.command("--worker"), NODE_PORT=str(port)))
    await says(port, state="starting", sentence="The model is being downloaded: 35 %.")
    local.say("stage", "warming_up 0")
    await says(port, state="starting", sentence="The model warms up: 0 %.")
    local.say("stage")
    node = await starting
    await says(port, state="ready")
    await node.end()


async def test_a_start_goes_on_as_long_as_the_engine_says_something_new_and_is_ended_after_that(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    stall_s, port, now_s = 3.0, free_port(), asyncio.get_running_loop().time
    local.say("stage", "loading 0.1")
    settings = {**local.command(), "NODE_PORT": str(port), "LOCAL_STALL_S": str(stall_s)}
    starting = asyncio.ensure_future(fleet.node(**settings))
    await says(port, sentence="The model is being loaded: 10 %.")
    began_s = now_s()

    def grown() -> bool:
        local.say("stage", f"loading 0.1 {now_s()} bytes are in memory.")
        return now_s() > began_s + 1.3 * stall_s

    await until(grown, every_s=0.2)
    assert len(local.starts) == 1
    await until(lambda: len(local.starts) == 2)
    local.say("stage")
    await starting


@pytest.mark.parametrize("stage", ["downloading", "loading", "warming_up"])
async def test_an_engine_killed_while_it_starts_is_started_again(
    local: LocalModel, fleet: InProcessFleet, stage: str
) -> None:
    port = free_port()
    local.say("stage", f"{stage} 0.5")
    starting = asyncio.ensure_future(fleet.node(**local.command("--worker"), NODE_PORT=str(port)))
    await says(port, sentence="The model")
    local.kill()
    await until(lambda: len(local.starts) == 2)
    assert local.left() == [local.pid, local.starts[-1]["worker"]]
    local.say("stage")
    node = await starting
    gateway = await fleet.gateway()
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        assert await whole(client, node.model, "tokens=3") == text_of(3)


async def test_a_node_whose_engine_ended_is_not_ready_until_the_next_one_is(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    port = free_port()
    await fleet.node(**local.command(), NODE_PORT=str(port))
    assert (await told(port))["ready"]
    local.say("stage", "loading 0.5")
    local.kill()
    await says(port, state="starting", sentence="The model is being loaded")
    assert (await told(port))["why"] == "The node's engine is not ready."
    local.say("stage")
    await says(port, ready="True", state="ready")


async def test_an_idle_engine_that_dies_is_replaced_before_it_is_asked(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    gateway, node = await fleet.gateway(), await fleet.node(**local.command("--worker"))
    await known(gateway, node.model)
    local.kill()
    async with client_of(gateway) as client:
        assert await whole(client, node.model, "tokens=3") == text_of(3)
    assert len(local.starts) == 2
    assert len(local.left()) == 2


async def test_what_an_engine_was_working_on_is_answered_by_the_next_one(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    gateway, node = await fleet.gateway(), await fleet.node(**local.program("vllm"))
    await known(gateway, node.model)
    local.say("stall", "yes")
    async with client_of(gateway) as client, await _stalled(client, node.model) as stream:
        text = await _read(stream, 5)
        answer = asyncio.ensure_future(whole(client, node.model, "tokens=6 stall-at=5"))
        # A second permit goes out at the node's next look at its slots.
        await until(lambda: busy(node, 2))
        local.kill()
        local.say("stall")
        # This engine continues: what was shown is not generated again.
        assert text + await _read(stream, 100) == text_of(20)
        assert await answer == text_of(6)
    assert len(local.starts) == 2


async def test_what_an_engine_was_working_on_goes_on_at_another_node(local: LocalModel, fleet: InProcessFleet) -> None:
    gateway, first = await fleet.gateway(), await fleet.node(**local.program("vllm"))
    await known(gateway, first.model)
    local.say("stall", "yes")
    async with client_of(gateway) as client, await _stalled(client, first.model) as stream:
        text = await _read(stream, 5)
        victim = local.starts[0]
        await fleet.node(**local.program("vllm"))
        local.say("die", "4\nno more")  # the first node's next engine does not come up
        os.kill(victim["pid"], signal.SIGKILL)
        local.say("stall")
        assert text + await _read(stream, 100) == text_of(20)
    local.say("die")


async def test_a_node_that_stops_while_it_asks_its_new_engine_leaves_no_session_open(
    local: LocalModel, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = asyncio.Event()

    async def never(*_: Any) -> None:
        asks.set()
        await asyncio.Event().wait()

    opened: list[RemoteEngine] = []
    start = RemoteEngine.start

    async def watched(engine: RemoteEngine) -> None:
        opened.append(engine)
        await start(engine)

    monkeypatch.setattr(RemoteEngine, "start", watched)
    await fleet.node(**local.program("vllm"))
    monkeypatch.setattr(workernode.local.engine, "_answer", never)
    local.kill()
    await asks.wait()
    await fleet.aclose()
    assert [each._session is not None and each._session.closed for each in opened] == [True, True]


async def test_a_request_that_kills_three_engines_is_a_dead_letter_and_the_node_lives(
    local: LocalModel, fleet: InProcessFleet
) -> None:
    gateway, node = await fleet.gateway(), await fleet.node(**local.command())
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        with pytest.raises(APIStatusError) as raised:
            await whole(client, node.model, "tokens=9 die-at=3")
        assert (raised.value.status_code, raised.value.code) == (500, "request_poisonous")
        assert len(local.starts) == 3
        assert await whole(client, node.model, "tokens=3") == text_of(3)
    assert len(local.starts) == 4


async def test_an_engine_that_cannot_start_is_given_up_with_a_sentence_and_recovers_when_that_is_mended(
    local: LocalModel, fleet: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.local.restarts, "GIVEN_UP_S", 0.3)
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    port = free_port()
    local.say("die", "1\nllama_model_load: error loading model: unknown model architecture: 'new'")
    starting = asyncio.ensure_future(fleet.node(**local.program("llama-server"), NODE_PORT=str(port)))
    await says(port, state="misconfigured", sentence="The engine does not know this model's architecture.")
    assert not (await told(port))["ready"]  # or a rollout would end the nodes that work
    await until(lambda: len(local.starts) >= 4)  # it goes on looking whether that was mended
    local.say("die")
    await starting
    await says(port, state="ready")

    async def events() -> list[str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{management.url}/api/v1/events?limit=100") as response,
        ):
            kinds = [row["event"]["type"][len(PREFIX) :] for row in (await response.json())["data"]]
            return kinds if "node.started" in kinds and "node.recovered" in kinds else []

    kinds = await until(events)
    assert kinds.count("node.engine_died") == 1
    assert kinds.count("node.misconfigured") == 1


@pytest.mark.parametrize(
    ("metrics", "model"),
    [
        ("ÿ", '"no object"'),
        ("vllm:num_requests_running NaN\n", '{"max_model_len": -1}'),
        ("vllm:kv_cache_usage_perc +Inf\n", '{"max_model_len": 1000000000000000019884624838656}'),
    ],
)
async def test_an_engine_may_tell_of_itself_what_it_likes(
    local: LocalModel, fleet: InProcessFleet, looked: list[Figures], metrics: str, model: str
) -> None:
    local.say("metrics", metrics)
    local.say("models", f'{{"data": [{model}]}}')
    gateway, node = await fleet.gateway(), await fleet.node(**local.program("vllm"))
    await known(gateway, node.model)
    await until(lambda: len(looked) > 2)
    assert set(looked) == {Figures()}
    async with client_of(gateway) as client:
        assert await whole(client, node.model, "tokens=3") == text_of(3)
    assert len(local.starts) == 1


async def test_all_that_an_engine_tells_of_itself_is_read(
    local: LocalModel, fleet: InProcessFleet, looked: list[Figures]
) -> None:
    local.say("metrics", "vllm:other 1\n" * 50_000 + "vllm:num_requests_waiting 3\n")
    await fleet.node(**local.program("vllm"))
    await until(lambda: len(looked) > 2)
    assert set(looked) == {Figures(waiting=3)}


async def test_whatever_goes_wrong_with_looking_after_an_engine_a_new_one_is_looked_after(
    local: LocalModel, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def broken_at_first(text: str, names: FigureNames) -> Figures:
        looked.append(text)
        if len(looked) == 1:
            raise ZeroDivisionError
        return figures_of(text, names)

    gateway = await fleet.gateway()
    monkeypatch.setattr(workernode.local.supervisor, "figures_of", broken_at_first)
    node = await fleet.node(**local.program("vllm"))
    await known(gateway, node.model)
    await until(lambda: len(local.starts) == 2)
    async with client_of(gateway) as client:
        assert await whole(client, node.model, "tokens=3") == text_of(3)


async def test_a_tokenizer_that_cannot_be_read_is_told_until_it_can(
    local: LocalModel, fleet: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.local.restarts, "GIVEN_UP_S", 0.3)
    port, tokenizer = free_port(), tmp_path / "tokenizer.json"
    starting = asyncio.ensure_future(fleet.node(**local.command(), NODE_PORT=str(port), TOKENIZER=str(tokenizer)))
    await says(port, state="misconfigured", sentence="TOKENIZER is no file that the library tokenizers can read.")
    word_tokenizer.written(tmp_path)
    await starting
    await says(port, state="ready")


async def test_a_log_that_cannot_be_opened_is_told_by_its_name(
    local: LocalModel, fleet: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.local.restarts, "GIVEN_UP_S", 0.3)
    port, log = free_port(), tmp_path / "logs" / "engine.log"
    starting = asyncio.ensure_future(fleet.node(**local.command(), NODE_PORT=str(port), LOCAL_LOG=str(log)))
    await says(port, state="misconfigured", sentence=f"LOCAL_LOG: {log} cannot be written (No such file or directory).")
    log.parent.mkdir()
    await starting
    await says(port, state="ready")


async def test_an_engine_goes_on_when_its_log_cannot_be_written(local: LocalModel, fleet: InProcessFleet) -> None:
    gateway, node = await fleet.gateway(), await fleet.node(**local.command(), LOCAL_LOG="/dev/full")
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        for _ in range(3):
            assert await whole(client, node.model, "tokens=3") == text_of(3)
    assert len(local.starts) == 1


async def test_slots_follow_the_memory_there_is(
    local: LocalModel, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request takes 24 MiB; there is room for ten of them, and sixty come at once."""
    own = sum(process.memory_info().rss for process in (psutil.Process(), *psutil.Process().children(recursive=True)))
    monkeypatch.setattr(workernode.local.slots, "HOST_MEMORY_USE_SAFE", 0.9)
    monkeypatch.setattr(workernode.local.slots, "HOST_MEMORY_USE_MAX", 0.95)
    room_mib = own / 2**20 + 80 + 10 * 24  # 80: the engine itself
    gateway = await fleet.gateway()
    node = await fleet.node(
        **local.command("--mib", "24", "--token-s", "0.05"),
        MAX_BATCH="64",
        HOST_MEMORY_MAX_GIB=str(room_mib / 0.9 / 1024),
    )
    await known(gateway, node.model)
    uses: list[float] = []
    slots: list[int] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            found = await figures(node)
            uses.append(found["workernode_host_memory_used_ratio"])
            slots.append(round(found["workernode_slots"]))
            await asyncio.sleep(0.05)

    looking = asyncio.ensure_future(look())
    async with client_of(gateway) as client:
        answers = await asyncio.gather(*(whole(client, node.model, "tokens=8") for _ in range(60)))
    done.set()
    await looking
    assert set(answers) == {text_of(8)}
    assert max(slots) >= 4, "it idles"
    assert max(slots) <= 32, "it takes no heed"  # which would be 60; a busy machine looks later
    assert max(use for use in uses if use == use) < 1.1


async def figures(node: Running) -> dict[str, float]:
    """What a node tells Prometheus."""
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


async def busy(node: Running, count: int) -> bool:
    """Whether so many of its slots are taken."""
    return bool((await told(node.port))["busy"] == count)


async def _stalled(client: Any, model: str) -> Any:
    return await client.chat.completions.create(**asked(model, "tokens=20 stall-at=5"), stream=True)


async def _read(stream: Any, tokens: int) -> str:
    text = ""
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if len(text.split()) == tokens:
            break
    return text


@pytest.mark.parametrize("group", [False, True], ids=["the process", "its group"])
async def test_a_node_that_is_killed_leaves_no_engine_behind(local: LocalModel, tmp_path: Path, group: bool) -> None:
    ports = {name: str(free_port()) for name in ("PORT", "MANAGEMENT_PORT", "NODE_PORT")}
    database = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
    env = {**os.environ, **local.command("--worker"), **ports, "MODEL_NAME": "model", "DATABASE_URL": database}
    fleet = await asyncio.create_subprocess_exec(sys.executable, "-m", "fleet", "up", env=env, start_new_session=True)
    try:
        await says(int(ports["NODE_PORT"]), state="ready")
        assert len(local.left()) == 2
    finally:
        (os.killpg if group else os.kill)(fleet.pid, signal.SIGKILL)
        await fleet.wait()
    await until(lambda: local.left() == [])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("stage", ["ready", "loading 0.5"])
def test_a_loop_that_ends_with_an_error_leaves_no_engine_behind(local: LocalModel, stage: str) -> None:
    """All tasks are cancelled at once then, and some of them again by those that close."""

    async def fails() -> None:
        server, port = MemoryServer(), free_port()
        fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": "model"})
        if stage != "ready":
            local.say("stage", stage)
        starting = asyncio.ensure_future(fleet.node(**local.command("--worker"), NODE_PORT=str(port)))
        await says(port, sentence="The model" if stage != "ready" else "")
        await until(lambda: local.starts)
        if stage == "ready":
            await starting
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        asyncio.run(fails())
    # Killed by the loop's last deed, it takes a moment to die, and no loop is there any more that could wait for it.
    asyncio.run(until(lambda: local.left() == []))
    gc.collect()
