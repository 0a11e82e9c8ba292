"""LlamaIndex's OpenAILike as its users use it; prints what it got as JSON. Runs in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def model(**options: Any) -> OpenAILike:
    own = {"api_key": os.environ["KEY"], "is_chat_model": True, "is_function_calling_model": True, "max_retries": 0}
    return OpenAILike(model=os.environ["MODEL"], api_base=os.environ["BASE_URL"], **(own | options))


def called() -> list[Any]:
    llm = model()
    tools = [FunctionTool.from_defaults(add)]
    answer = llm.chat_with_tools(tools, user_msg="r5 calls=2", allow_parallel_tool_calls=True)
    return [[call.tool_name, call.tool_kwargs] for call in llm.get_tool_calls_from_response(answer)]


async def at_once() -> list[str]:
    answers = await asyncio.gather(*(model().achat([ChatMessage(f"r{i} tokens={i}")]) for i in range(8)))
    return [each.message.content for each in answers]


def refused() -> list[Any]:
    try:
        model(api_key="sk-wrong").chat([ChatMessage("r1")])
    except openai.APIStatusError as error:
        return [error.status_code, error.code]
    return []


def main() -> None:
    got = {
        "whole": model().chat([ChatMessage("r1 tokens=4")]).message.content,
        "stream": "".join(each.delta or "" for each in model().stream_chat([ChatMessage("r2 tokens=4")])),
        "calls": called(),
        "async": asyncio.run(at_once()),
        "completion": model(is_chat_model=False).complete("r3 tokens=2").text,
        "refused": refused(),
    }
    print(json.dumps(got))


if __name__ == "__main__":
    main()
