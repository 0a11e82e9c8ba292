"""A client that writes down everything it sees, and believes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
                asked.take_whole(await response.read())
    except TimeoutError:
        return  # ended_at stays None
    except aiohttp.ClientConnectorError:
        asked.error = {"code": UNREACHED}
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        asked.broken = type(error).__name__
    asked.ended_at = asyncio.get_running_loop().time()


async def _read_stream(response: aiohttp.ClientResponse, asked: Asked) -> None:
    async for line in response.content:
        asked.take_line(line)
        if asked.leaves_now:
            asked.hung_up = True
            response.close()
            return
