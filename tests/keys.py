"""``fleet keys`` for tests, and gateways that know the keys it makes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from click.testing import CliRunner

from fleet.keys.command import keys
from tests.raw_http import Answer, exchange, get, post


class Keys:
    """The commands, on one database. They block for a moment, so they run in a thread."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def run(self, *arguments: str) -> dict[str, Any]:
        """A command's JSON; it must do what it is asked."""
        code, out, err = await self.tried(*arguments, "--json")
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def tried(self, *arguments: str) -> tuple[int, str, str]:
        """A command's exit code, and what it wrote."""
        return await asyncio.to_thread(self._invoke, arguments)

    async def create(self, name: str, *options: str) -> str:
        """A fresh key."""
        key: str = (await self.run("create", name, *options))["key"]
        return key

    def _invoke(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        result = CliRunner(env={"DATABASE_URL": self.url}).invoke(keys, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr


def bearer(key: str) -> tuple[str, str]:
    """The headers of a JSON request with this key."""
    return "content-type: application/json", f"authorization: Bearer {key}"


async def ask(port: int, key: str, model: str, **fields: Any) -> Answer:
    """A small chat request."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    return await exchange(port, post(body, *bearer(key), f"content-length: {len(body)}"))


async def models(port: int, key: str) -> Answer:
    """The list of models."""
    return await exchange(port, get("/v1/models", *bearer(key)))
