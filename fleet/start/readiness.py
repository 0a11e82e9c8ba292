"""Asking a role over HTTP whether it is ready."""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import urlsplit

from process.tls import pinned

POLL_EVERY_S = 0.1
ANSWER_BYTES_MAX = 4096


async def answer(url: str, certificates: tuple[Path, ...] = (), wait_s: float = 2.0) -> str:
    """`"200"`, or why it is not that: the status and the start of the body, or what went wrong on the way.

    An https URL is believed only if it shows one of `certificates`.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(wait_s):
            trusted = pinned(*certificates) if parts.scheme == "https" else None
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=trusted)
            try:
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
                data = bytearray()
                while len(data) < ANSWER_BYTES_MAX and (more := await reader.read(ANSWER_BYTES_MAX)):
                    data += more
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"no answer within {wait_s:g} s"
    except OSError as error:
        return error.strerror or str(error) or "connection refused"
    head, _, body = bytes(data).decode(errors="replace").partition("\r\n\r\n")
    words = head.split()
    if len(words) < 2 or not words[0].startswith("HTTP/"):
        return "not an HTTP answer"
    return "200" if words[1] == "200" else " ".join(f"{words[1]} {body}".split())[:200]


async def until_ready(urls: tuple[str, ...], last: dict[str, str], certificates: tuple[Path, ...] = ()) -> None:
    """Return when every URL has answered 200; `last` always holds the latest answer of those that have not."""
    waiting = list(urls)
    while waiting:
        for url in list(waiting):
            last[url] = await answer(url, certificates)
            if last[url] == "200":
                waiting.remove(url)
                del last[url]
        if waiting:
            await asyncio.sleep(POLL_EVERY_S)
