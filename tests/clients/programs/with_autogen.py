"""Two agents of AutoGen that talk, one of them with a tool; prints what was said as JSON. Runs in the environment of
clients."""

from __future__ import annotations

import asyncio
import json
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main() -> None:
    client = OpenAIChatCompletionClient(
        model=os.environ["MODEL"],
        base_url=os.environ["BASE_URL"],
        api_key=os.environ["KEY"],
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": "unknown",
        },
    )
    adder = AssistantAgent("adder", client, tools=[add], reflect_on_tool_use=True, model_client_stream=True)
    critic = AssistantAgent("critic", client)
    team = RoundRobinGroupChat([adder, critic], termination_condition=MaxMessageTermination(4))
    result = await team.run(task="r1 tokens=2 calls=1")
    said = [[message.source, message.type, message.to_text()] for message in result.messages]
    usage = client.total_usage()
    await client.close()
    print(json.dumps({"said": said, "prompt_tokens": usage.prompt_tokens}))


asyncio.run(main())
