"""How fast our model server is beside transformers': ``$(scripts/local)/bin/python -m bench.local_model``.

Greedy answers of the same length to the same prompts, in one run and in turns: one after another by ``generate``, in
this process and without HTTP; by ``transformers serve --continuous-batching``; and by ours. Then how much of the time
the model has work when requests come through a gateway and a node. Ratios are what counts: a machine is never quiet.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import psutil

from bench.machine import commit, load_average, this_machine, today
from bench.process import ROOT, free_ports
from bench.spread import Spread, percentile, significant
from workernode.local import tiny

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RESULTS = ROOT / "bench" / "results" / "local_model.json"
CONCURRENT = (1, 8, 32)
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "worker", "takes", "request", "when", "it")
GENERATED_MAX = 4
START_S = 240.0
BUSY_WARM_S, BUSY_S = 75.0, 10.0


class Shape(msgspec.Struct, frozen=True):
    """A model with random weights, how it is asked, and the threads of its steps."""

    name: str
    sizes: dict[str, Any]
    tokens: int
    rounds: int
    threads: int


SHAPES = (
    Shape("tiny", {"context": 2048}, 64, 3, 1),
    Shape(
        "134M",
        {"layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12, "intermediate": 2048, "vocabulary": 32_000}
        | {"context": 2048, "spread": 0.05},
        64,
        3,
        2,
    ),
)


class Cell(msgspec.Struct, frozen=True):
    """One model, one number of requests at once: tokens per second and the median milliseconds to a first token."""

    model: str
    requests: int
    tokens_per_s: dict[str, Spread]
    first_token_ms: dict[str, Spread]
    same_texts: bool
    """Whether the two servers said the same, but for characters that are not whole, which they show differently."""

    def ratio(self, other: str) -> float:
        """How many times as many tokens ours makes, by the medians."""
        return self.tokens_per_s["workernode"].median / self.tokens_per_s[other].median


class Result(msgspec.Struct, frozen=True):
    """What a run leaves behind."""

    date: str
    commit: str
    system: str
    processor: str
    cores: int
    python: str
    torch: str
    transformers: str
    load_before: float
    load_after: float
    cells: list[Cell]
    busy_share: dict[str, float]
    """Of a model with 32 requests at once through gateway and node."""


def main() -> None:
    """Measure, print, and leave the data behind."""
    before, machine = load_average(), this_machine()
    wanted = [shape for shape in SHAPES if shape.name in (sys.argv[1:] or [shape.name for shape in SHAPES])]
    cells: list[Cell] = []
    shares: dict[str, float] = {}
    for shape in wanted:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder) / "model", shape)
            cells += asyncio.run(_measure(Path(folder) / "model", shape))
            shares[shape.name] = asyncio.run(_busy_share(Path(folder), shape))
            print(shape.name, "busy", shares[shape.name], flush=True)
    result = Result(
        date=today(),
        commit=commit(),
        system=machine.system,
        processor=machine.processor,
        cores=machine.cores,
        python=machine.python,
        torch=importlib.metadata.version("torch"),
        transformers=importlib.metadata.version("transformers"),
        load_before=before,
        load_after=load_average(),
        cells=cells,
        busy_share=shares,
    )
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def report(result: Result) -> str:
    """As a table in Markdown."""
    lines = [
        f"{result.cores} cores ({result.processor}), {result.system}, Python {result.python}, torch {result.torch} on "
        f"the processor, transformers {result.transformers}. {result.date}, commit {result.commit}. Load average "
        f"before and after: {result.load_before}, {result.load_after}. Medians, least and greatest in brackets.",
        "",
        "| model | requests | `generate`, tokens/s | `transformers serve` | ours | ours / `generate` | ours / serve "
        "| first token, serve | ours |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in result.cells:
        rates = [_shown(cell.tokens_per_s[way]) for way in ("generate", "serve", "workernode")]
        firsts = [f"{cell.first_token_ms[way].median:.0f} ms" for way in ("serve", "workernode")]
        ratios = [f"{cell.ratio(way):.1f}" for way in ("generate", "serve")]
        lines.append(f"| {' | '.join([cell.model, str(cell.requests), *rates, *ratios, *firsts])} |")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.busy_share.items())
    lines += ["", f"Of the time with 32 requests at once through a gateway and a node, steps were made: {shares}."]
    return "\n".join(lines)


def _shown(spread: Spread) -> str:
    return f"{spread.median:.0f} ({spread.least:.0f}…{spread.greatest:.0f})"


def _make(folder: Path, shape: Shape) -> None:
    from safetensors.torch import load_file, save_file

    tiny.make(folder, **shape.sizes)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][:3] = 0  # no special token is ever the likeliest: all answers have the same length
    weights["lm_head.weight"][512:] = 0  # nor one that the tokenizer does not know: every token shows
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


async def _measure(folder: Path, shape: Shape) -> list[Cell]:
    python = str(Path(sys.executable))
    environ = {**os.environ, "OMP_NUM_THREADS": str(shape.threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    ports = free_ports(2)
    # As many tokens in a step as ours, and a cache for all: by itself it would take most of the memory.
    serve = [str(Path(python).parent / "transformers"), "serve", str(folder), "--continuous-batching"]
    serve += ["--device", "cpu", "--port", str(ports[0]), "--cb-block-size", "32", "--cb-num-blocks", "512"]
    serve += ["--cb-max-batch-tokens", "512"]
    ours = [python, "-m", "workernode.local.server", "--model", str(folder), "--port", str(ports[1])]
    ours += ["--threads", str(shape.threads)]
    processes = [_started(argv, environ) for argv in (serve, ours)]
    try:
        for port in ports:
            await _healthy(port)
        generate = _generating(folder, shape)
        ways: dict[str, Callable[[list[str]], Awaitable[list[_Answer]]]] = {
            "generate": generate,
            "serve": lambda prompts: _burst(ports[0], str(folder), prompts, shape.tokens),
            "workernode": lambda prompts: _burst(ports[1], str(folder), prompts, shape.tokens),
        }
        return [await _cell(shape, count, ways) for count in CONCURRENT]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


class _Answer(msgspec.Struct):
    first_s: float
    text: str


async def _cell(shape: Shape, count: int, ways: dict[str, Callable[[list[str]], Awaitable[list[_Answer]]]]) -> Cell:
    luck = random.Random(count)
    prompts = [" ".join(luck.choices(WORDS, k=8)) for _ in range(count)]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    firsts: dict[str, list[float]] = {way: [] for way in ways}
    texts: dict[str, list[str]] = {}
    for number in range(shape.rounds + 1):
        for way, run in ways.items():
            began = time.perf_counter()
            answers = await run(prompts)
            if number:  # the first round warms up
                rates[way].append(len(answers) * shape.tokens / (time.perf_counter() - began))
                firsts[way].append(percentile([each.first_s * 1000 for each in answers], 50))
            texts[way] = [each.text.replace("\ufffd", "") for each in answers]
    cell = Cell(
        shape.name,
        count,
        {way: Spread.of(found) for way, found in rates.items()},
        {way: Spread.of(found) for way, found in firsts.items() if way != "generate"},
        texts["serve"] == texts["workernode"],
    )
    print(msgspec.json.encode(cell).decode(), flush=True)
    return cell


def _generating(folder: Path, shape: Shape) -> Callable[[list[str]], Awaitable[list[_Answer]]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(shape.threads)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    async def run(prompts: list[str]) -> list[_Answer]:
        # One after another: more of them would take longer, and tell the same.
        for prompt in prompts[:GENERATED_MAX]:
            messages = [{"role": "user", "content": prompt}]
            inputs = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            made = model.generate(**inputs, max_new_tokens=shape.tokens, do_sample=False, pad_token_id=0)
            assert made.shape[1] == inputs["input_ids"].shape[1] + shape.tokens
        return [_Answer(0.0, "") for _ in prompts[:GENERATED_MAX]]

    return run


async def _burst(port: int, model: str, prompts: list[str], tokens: int) -> list[_Answer]:
    async with _session() as session:
        return list(await asyncio.gather(*(_ask(session, port, model, prompt, tokens) for prompt in prompts)))


async def _ask(session: aiohttp.ClientSession, port: int, model: str, prompt: str, tokens: int) -> _Answer:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    began, first_s, parts, reason = time.perf_counter(), 0.0, [], None
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with session.post(url, json={**body, "temperature": 0, "stream": True}) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            for choice in msgspec.json.decode(line[6:]).get("choices", ()):
                text = choice["delta"].get("content")
                if text:
                    first_s = first_s or time.perf_counter() - began
                    parts.append(text)
                reason = choice.get("finish_reason") or reason
    assert reason == "length", reason
    return _Answer(first_s, "".join(parts))


async def _busy_share(folder: Path, shape: Shape) -> float:
    """32 clients ask through ``fleet up`` without a pause. Its node begins with one slot: the share is of later."""
    port, node_port, management_port = free_ports(3)
    environ = {
        **os.environ,
        **{"NODE_TYPE": "local", "MODEL_PATH": str(folder / "model"), "MODEL_NAME": "model", "DEVICE": "cpu"},
        **{"PORT": str(port), "NODE_PORT": str(node_port), "MANAGEMENT_PORT": str(management_port)},
        **{"MAX_PROCESS_NUM": "32", "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/ledger.db"},
        **{"OMP_NUM_THREADS": str(shape.threads), "PYTHONPATH": str(ROOT), "FIRST_TOKEN_TARGET_S": "60"},
    }
    process = _started([sys.executable, "-m", "fleet", "up"], environ)
    try:
        await _healthy(node_port, "/readyz")
        engine = _engine_port(process.pid)
        async with _session() as session:
            users = [asyncio.ensure_future(_keep_asking(session, port, shape)) for _ in range(32)]
            warm_until = time.monotonic() + BUSY_WARM_S
            while time.monotonic() < warm_until:
                await asyncio.sleep(0.5)
                if (await _figures(engine))["model_requests_running"] >= 30:
                    break
            began, before = time.perf_counter(), (await _figures(engine))["model_busy_seconds_total"]
            await asyncio.sleep(BUSY_S)
            after, took = (await _figures(engine))["model_busy_seconds_total"], time.perf_counter() - began
            for user in users:
                user.cancel()
            for ended in await asyncio.gather(*users, return_exceptions=True):
                assert isinstance(ended, asyncio.CancelledError), ended
        return significant((after - before) / took, 3)
    finally:
        process.terminate()
        process.wait()


def _started(argv: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)


async def _keep_asking(session: aiohttp.ClientSession, port: int, shape: Shape) -> None:
    while True:
        await _ask(session, port, "model", "the quick brown fox", shape.tokens * 2)


def _engine_port(pid: int) -> int:
    for child in psutil.Process(pid).children(recursive=True):
        argv = child.cmdline()
        if "workernode.local.server" in argv:
            return int(argv[argv.index("--port") + 1])
    raise RuntimeError("the node has no engine")


async def _figures(port: int) -> dict[str, float]:
    async with _session() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600))


async def _healthy(port: int, path: str = "/health") -> None:
    until = time.monotonic() + START_S
    async with _session() as session:
        while time.monotonic() < until:
            try:
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise TimeoutError("a server did not come up")


if __name__ == "__main__":
    main()
