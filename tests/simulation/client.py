"""A client that writes down everything it sees. As :mod:`tests.chaos.client`, without sockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.chaos.asked import UNREACHED
from tests.chaos.client import STALL_S
from tests.simulation.trouble import LONG_S

if TYPE_CHECKING:
    from tests.chaos.asked import Asked
    from tests.simulation.connection import Connection
    from tests.simulation.fleet import Fleet


async def ask(fleet: Fleet, connection: Connection, asked: Asked, leaves_s: float | None) -> None:
    """Send one request and fill in what becomes of it; hang up after ``leaves_s`` if the end has not come by then."""
    loop, trace = asyncio.get_running_loop(), fleet.trace
    trace.add(asked.name, f"asks {asked.life}")
    if not fleet.connect(connection):
        asked.error = {"code": UNREACHED}
    else:
        try:
            # A gateway may stand still meanwhile. Whether its end came too late the judge says.
            async with asyncio.timeout(leaves_s if leaves_s is not None else asked.timeout_s + STALL_S + LONG_S):
                await _read(connection, asked)
        except TimeoutError:
            asked.hung_up = leaves_s is not None
            if not asked.hung_up:
                trace.add(asked.name, "waits no longer")
                return  # ended_at stays None
        connection.leave()
    asked.ended_at = loop.time()
    trace.add(asked.name, f"ends: {asked}")


def headers_of(asked: Asked, key: str) -> list[tuple[bytes, bytes]]:
    """What it sends beside its body."""
    return [
        (b"host", b"gateway"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body_of(asked))),
        (b"authorization", b"Bearer " + key.encode()),
        (b"user-agent", asked.name.encode()),
        (b"x-request-timeout-ms", b"%d" % round(asked.timeout_s * 1000)),
    ]


def body_of(asked: Asked) -> bytes:
    """The JSON."""
    return json.dumps(asked.body).encode()


async def _read(connection: Connection, asked: Asked) -> None:
    start = await connection.next()
    if start["type"] == "broken":
        asked.broken = "ConnectionReset"
        return
    headers: dict[bytes, bytes] = dict(start["headers"])
    asked.status = start["status"]
    asked.request_id = headers[b"x-request-id"].decode()
    is_stream = headers[b"content-type"].startswith(b"text/event-stream")
    rest = b""
    while True:
        message: dict[str, Any] = await connection.next()
        if message["type"] == "broken":
            asked.broken = "ConnectionReset"
            return
        rest += message["body"]
        if is_stream:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                asked.take_line(line)
                if asked.leaves_now:
                    asked.hung_up = True
                    return
        if not message.get("more_body"):
            if not is_stream:
                try:
                    asked.take_whole(rest)
                except ValueError as error:
                    asked.broken = type(error).__name__
            return
