"""A client that writes down everything it sees, and believes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.chaos.asked import UNREACHED

if TYPE_CHECKING:
    from tests.chaos.asked import Asked

STALL_S = 20.0
"""So long after its deadline a client gives up: the request counts as open for ever."""


async def ask(session: aiohttp.ClientSession, url: str, key: str, asked: Asked) -> None:
    """Send one request and fill in what becomes of it. Raises nothing but cancellation."""
    headers = {
        "authorization": f"Bearer {key}",
        # Travels into the charge: the one thing by which the ledger can be compared with the client's own log.
        "user-agent": asked.name,
        "x-request-timeout-ms": str(round(asked.timeout_s * 1000)),
    }
    try:
        async with (
            asyncio.timeout(asked.timeout_s + STALL_S),
            session.post(f"{url}/v1/chat/completions", json=asked.body, headers=headers) as response,
        ):
            asked.status = response.status
            asked.request_id = response.headers.get("x-request-id")
            if response.status == 200 and asked.stream:
                await _read_stream(response, asked)
            else:
                _read_whole(await response.read(), asked)
    except TimeoutError:
        return  # ended_at stays None
    except aiohttp.ClientConnectorError:
        asked.error = {"code": UNREACHED}
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        asked.broken = type(error).__name__
    asked.ended_at = asyncio.get_running_loop().time()


def _read_whole(body: bytes, asked: Asked) -> None:
    answer = json.loads(body)
    if "error" in answer:
        asked.error = answer["error"]
        return
    asked.text = answer["choices"][0]["message"]["content"]
    asked.usage = answer["usage"]
    _mark(answer, asked)
    asked.done = answer["choices"][0]["finish_reason"] == "stop"


async def _read_stream(response: aiohttp.ClientResponse, asked: Asked) -> None:
    parts = 0
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            asked.done = True
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            asked.error = chunk["error"]
            continue
        _mark(chunk, asked)
        asked.usage = chunk.get("usage") or asked.usage
        for choice in chunk["choices"]:
            asked.text += choice["delta"].get("content") or ""
        parts += 1
        if asked.hang_up_after is not None and parts >= asked.hang_up_after:
            asked.hung_up = True
            response.close()
            return


def _mark(chunk: dict[str, Any], asked: Asked) -> None:
    asked.ids.add(chunk["id"])
    fingerprint = chunk.get("system_fingerprint") or ""
    if fingerprint not in asked.runs[-1:]:
        asked.runs.append(fingerprint)
