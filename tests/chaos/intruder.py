"""Whoever should not get in, and whatever should not be understood."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.life import Life

STRANGER = "stranger"
"""The first word of prompts that come without a valid key: no execution and no charge may bear it."""


@dataclass(frozen=True)
class Tried:
    """One attempt; ``status`` is None where no answer came."""

    what: str
    status: int | None
    authorized: bool


RUBBISH: dict[str, bytes] = {
    "no JSON": b"{",
    "an empty body": b"",
    "a list": b"[]",
    "no messages": b'{"model": "MODEL"}',
    "messages of a wrong type": b'{"model": "MODEL", "messages": 7}',
    "a number for a model": b'{"model": 3, "messages": []}',
    "a model that is not there": b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}',
    "broken UTF-8": b'{"model": "MODEL", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "deep nesting": b'{"model": "MODEL", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


async def intrude(fleet: ChaosFleet, life: Life) -> list[Tried]:
    """Ask a gateway with wrong keys, and with a valid one for nonsense."""
    body = {"model": fleet.model, "messages": [{"role": "user", "content": f"{STRANGER} tokens=3"}]}
    asked = json.dumps(body).encode()
    tried: list[Tried] = []
    async with aiohttp.ClientSession() as session:

        async def send(what: str, data: bytes, key: str | None, *, authorized: bool) -> None:
            headers = {"content-type": "application/json", "user-agent": STRANGER}
            if key is not None:
                headers["authorization"] = f"Bearer {key}"
            try:
                async with session.post(f"{life.url}/v1/chat/completions", data=data, headers=headers) as response:
                    await response.read()
                    tried.append(Tried(what, response.status, authorized))
            except aiohttp.ClientError:
                tried.append(Tried(what, None, authorized))

        for key in (None, "", "wrong", fleet.key[:-1], f"{fleet.key}x"):
            await send("no valid key", asked, key, authorized=False)
        for what, data in RUBBISH.items():
            await send(what, data.replace(b"MODEL", fleet.model.encode()), fleet.key, authorized=True)
    return tried
