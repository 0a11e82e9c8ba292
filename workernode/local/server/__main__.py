"""``python -m workernode.local.server``: one model behind the OpenAI API. docs/local-server.md is its contract."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from process.http import bind, serving
from process.lifecycle import PortInUse, run_until_signal
from workernode.local.server import flags
from workernode.local.server.ending import CannotServe, tell
from workernode.local.server.front import tools
from workernode.local.server.front.app import App
from workernode.local.server.front.client import StepClient
from workernode.local.server.front.room import Room
from workernode.local.server.front.tokens import Tokens

if TYPE_CHECKING:
    from workernode.local.server.flags import Flags
    from workernode.local.server.words import Ready


async def serve(settings: Flags, stop: asyncio.Event) -> None:
    """Serve until asked to stop. Raises :class:`CannotServe`."""
    client = StepClient(settings)
    app = App(client)

    def on_ready(ready: Ready) -> None:
        known = Tokens(ready, settings)
        app.room = Room(settings, client, ready, known, tools.format_of(known.tool_template))

    listener = _listen(settings)
    async with serving(app, listener, stop_grace_s=settings.drain_s):
        print(json.dumps({"listening": _address(settings, listener)}), flush=True)
        tasks = [asyncio.create_task(client.run(on_ready)), asyncio.create_task(stop.wait())]
        if settings.exit_with_stdin:
            tasks.append(asyncio.create_task(_stdin_closed()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            app.room = None
            if settings.drain_s and client.ready is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.idle.wait(), settings.drain_s)
            client.refuse_all("The model server stops.")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _stdin_closed() -> None:
    """Returns when the parent has gone, which held the other end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(65536):
        pass


def _listen(settings: Flags) -> socket.socket:
    try:
        if not settings.socket:
            return bind(settings.host, settings.port, "--port")
        place = Path(settings.socket)
        if place.is_socket():  # of a server that was killed
            place.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(settings.socket)
        except BaseException:
            listener.close()
            raise
        os.chmod(settings.socket, 0o600)
        listener.listen(2048)
        listener.setblocking(False)
        return listener
    except PortInUse as error:
        raise CannotServe("usage", str(error)) from None
    except OSError as error:
        raise CannotServe("usage", f"{settings.socket} cannot be listened on ({error.strerror}).") from None


def _address(settings: Flags, listener: socket.socket) -> str:
    return f"unix:{settings.socket}" if settings.socket else f"http://{settings.host}:{listener.getsockname()[1]}"


def main() -> int:
    """The exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        settings = flags.read(sys.argv[1:], os.environ)
        run_until_signal(lambda stop: serve(settings, stop))
    except CannotServe as problem:
        return tell(problem)
    except Exception as error:
        logging.exception("The server failed.")
        return tell(CannotServe("internal", f"The server failed: {type(error).__name__}."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
