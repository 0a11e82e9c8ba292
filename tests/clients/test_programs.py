"""Programs that people use with OpenAI's API, as processes of their own, against a real fleet: openai-node, LangChain,
LlamaIndex, AutoGen and the command ``llm``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import MODEL, Served, run, told
from tests.fake_chat import oracle_choices, oracle_text, oracle_usage
from tests.fake_texts import oracle_texts, oracle_vectors

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROGRAMS = Path(__file__).parent / "programs"


def asked(prompt: str, **fields: Any) -> dict[str, Any]:
    """What the provider gets."""
    return {"messages": [{"role": "user", "content": prompt}], **fields}


async def test_openai_node_gets_every_endpoint(served: Served, node_place: Path, tmp_path: Path) -> None:
    # Where a script lies is where its imports are looked for.
    (tmp_path / "node_modules").symlink_to(node_place / "node_modules")
    script = tmp_path / "with_openai.mjs"
    script.write_text((PROGRAMS / script.name).read_text())
    got = await told(served, tmp_path, "node", script)
    assert got["whole"] == {
        "texts": oracle_choices(asked("r1 tokens=3", n=3)),
        "usage": oracle_usage(asked("r1 tokens=3", n=3)),
        "model": MODEL,
    }
    assert got["requestId"] is True
    assert got["stream"] == {"texts": oracle_choices(asked("r2 tokens=4", n=3)), "ids": 1}
    assert got["streamWithUsage"]["usage"] == oracle_usage(asked("r2"))
    assert [(call["name"], json.loads(call["arguments"])) for call in got["calls"]] == [("add", {"a": 7, "b": 7})] * 2
    assert got["ran"] == [{"ran": [{}, {}], "text": oracle_text(asked("r6 calls=2 no-arguments"))}] * 2
    assert got["json"] == {"age": 7}
    assert got["texts"] == oracle_texts({"prompt": ["r1", "r2 tokens=2"]})
    assert [got["continued"]] == oracle_texts({"prompt": "r3 tokens=2"})
    assert got["vectors"] == got["floats"] == oracle_vectors({"input": ["a", "b"]})
    assert (got["models"], got["retrieved"]) == ([MODEL], MODEL)
    assert got["refused"] == {
        "wrongKey": ["AuthenticationError", 401, "invalid_api_key", None, True],
        "unknown": ["NotFoundError", 404, "model_not_found", "model", True],
        "notAllowed": ["PermissionDeniedError", 403, "permission_denied", "model", True],
        "wrongValue": ["BadRequestError", 400, "invalid_value", "temperature", True],
        "midStream": ["APIError", None, "stream_interrupted", None, True],
    }


async def test_langchain_invokes_streams_calls_tools_and_parses(
    served: Served, python_place: Path, tmp_path: Path
) -> None:
    got = await told(served, tmp_path, python_place / "bin" / "python", PROGRAMS / "with_langchain.py")
    text, usage, finish = got["whole"]
    assert (text, finish) == (oracle_text(asked("r1 tokens=4")), "stop")
    assert (usage["input_tokens"], usage["output_tokens"]) == (4, 5)
    text, (usage,) = got["stream"]
    assert text == oracle_text(asked("r2 tokens=4"))
    assert usage["total_tokens"] == oracle_usage(asked("r2 tokens=4"))["total_tokens"]
    for calls in (got["tool"]["calls"], got["tool"]["streamed"]):
        assert [(call["name"], call["args"]) for call in calls] == [("add", {"a": 7, "b": 7})] * 2
    assert got["tool"]["after"] == oracle_text(asked("r5 calls=2"))
    assert got["structured"] == [{"name": "r6", "age": 7}] * 2
    assert got["async"]["answers"] == [oracle_text(asked(f"r{i} tokens={i}")) for i in range(8)]
    assert "".join(got["async"]["stream"]) == oracle_text(asked("r9 tokens=3"))
    assert got["refused"] == {
        "wrong_key": [401, "invalid_api_key"],
        "wrong_value": [400, "invalid_value"],
    }


async def test_llamaindex_asks_whole_and_streamed_calls_tools_and_completes(
    served: Served, llamaindex_place: Path, tmp_path: Path
) -> None:
    got = await told(served, tmp_path, llamaindex_place / "bin" / "python", PROGRAMS / "with_llamaindex.py")
    assert got == {
        "whole": oracle_text(asked("r1 tokens=4")),
        "stream": oracle_text(asked("r2 tokens=4")),
        "calls": [["add", {"a": 7, "b": 7}]] * 2,
        "async": [oracle_text(asked(f"r{i} tokens={i}")) for i in range(8)],
        "completion": oracle_texts({"prompt": "r3 tokens=2"})[0],
        "refused": [401, "invalid_api_key"],
    }


async def test_two_agents_of_autogen_talk_with_a_tool(served: Served, python_place: Path, tmp_path: Path) -> None:
    got = await told(served, tmp_path, python_place / "bin" / "python", PROGRAMS / "with_autogen.py")
    call, result = "[FunctionCall(id='call_0', arguments='{\"a\": 7, \"b\": 7}', name='add')]", "content='14'"
    (_, adder, tool, *said) = got["said"]
    assert adder == ["adder", "ToolCallRequestEvent", call]
    assert result in tool[2]
    texts = [
        ["adder", oracle_text(asked("r1 tokens=2"))],
        *([name, oracle_text(asked("r1"))] for name in ("critic", "adder")),
    ]
    assert [[source, text] for source, _, text in said] == texts
    assert got["prompt_tokens"] > 0


async def test_the_command_llm_prompts_whole_and_streamed(served: Served, python_place: Path, tmp_path: Path) -> None:
    llm = python_place / "bin" / "llm"
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: fleet\n  model_name: {MODEL}\n  api_base: {served.url}\n  api_key_name: fleet\n"
    )
    home = {"LLM_USER_PATH": str(tmp_path)}
    await run(served, tmp_path, llm, "keys", "set", "fleet", "--value", served.key, **home)
    for streamed, options in ((True, []), (False, ["--no-stream"])):
        text = await run(served, tmp_path, llm, "-m", "fleet", *options, "r3 tokens=6", **home)
        assert text.strip() == oracle_text(asked("r3 tokens=6"))
        assert bool(served.upstream.requests[-1].json.get("stream")) == streamed
