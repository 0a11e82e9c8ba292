"""LangChain's ChatOpenAI as its users use it; prints what it got as JSON. Runs in the environment of clients."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def model(**options: Any) -> ChatOpenAI:
    key = options.pop("api_key", os.environ["KEY"])
    return ChatOpenAI(model=os.environ["MODEL"], base_url=os.environ["BASE_URL"], api_key=key, **options)


def called() -> dict[str, Any]:
    """A tool that is asked for, run, and whose result is answered."""
    talk: list[Any] = [HumanMessage("r5 calls=2")]
    bound = model().bind_tools([add])
    answer = bound.invoke(talk)
    talk += [answer, *(add.invoke(call) for call in answer.tool_calls)]
    streamed = None
    for chunk in bound.stream(talk[:1]):
        streamed = chunk if streamed is None else streamed + chunk
    return {
        "calls": answer.tool_calls,
        "streamed": streamed.tool_calls,
        "after": bound.invoke(talk).content,
    }


async def at_once() -> dict[str, Any]:
    chat = model()
    texts = await asyncio.gather(*(chat.ainvoke(f"r{i} tokens={i}") for i in range(8)))
    return {
        "answers": [each.content for each in texts],
        "stream": [chunk.content async for chunk in chat.astream("r9 tokens=3")],
    }


def refused() -> dict[str, Any]:
    told = {}
    for name, chat in {
        "wrong_key": model(api_key="sk-wrong", max_retries=0),
        "wrong_value": model(temperature=9, max_retries=0),
    }.items():
        try:
            chat.invoke("r1")
        except openai.APIStatusError as error:
            told[name] = [error.status_code, error.code]
    return told


def main() -> None:
    whole = model().invoke([SystemMessage("Be brief."), HumanMessage("r1 tokens=4")])
    chunks = list(model(stream_usage=True).stream("r2 tokens=4"))
    usages = [used for each in chunks if (used := each.usage_metadata)]
    got = {
        "whole": [whole.content, whole.usage_metadata, whole.response_metadata["finish_reason"]],
        "stream": ["".join(each.content for each in chunks), usages],
        "tool": called(),
        "structured": [
            model().with_structured_output(Person, method=method).invoke("r6").model_dump()
            for method in ("json_schema", "function_calling")
        ],
        "async": asyncio.run(at_once()),
        "refused": refused(),
    }
    print(json.dumps(got))


if __name__ == "__main__":
    main()
