"""Asking an HTTP server one question, without believing anything it says."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from fleet.doctor.finding import Finding, ok, warn
from process.tls import trusting

if TYPE_CHECKING:
    from ssl import SSLContext

ANSWER_BYTES_MAX = 4 * 1024 * 1024
CLOCK_OFF_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)


class Unanswered(Exception):
    """The server gave no answer; the words say why, without its address."""


@dataclass(frozen=True)
class Reply:
    """``json`` is None for what is none, ``clock_s`` how far the server's clock is ahead of ours."""

    status: int
    json: Any
    clock_s: float | None


async def ask(
    url: str,
    headers: dict[str, str],
    trusted: SSLContext | None = None,
    body: Any = None,
    *,
    proxy: str | None = None,
    bytes_max: int = ANSWER_BYTES_MAX,
) -> Reply:
    """GET, or POST where there is a JSON ``body``, following no redirect: a key must not go elsewhere.

    Raises :class:`Unanswered`, also for an answer of more than ``bytes_max``.
    ``trusted`` is for an https address that no authority vouches for, ``proxy`` the address of an HTTP proxy.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, proxy=proxy) as session,
            session.request(
                "GET" if body is None else "POST",
                url,
                headers=headers,
                json=body,
                allow_redirects=False,
                ssl=trusted or (trusting() if url.startswith("https:") else True),
            ) as response,
        ):
            now = time.time()
            said = bytearray()
            async for part in response.content.iter_any():
                said += part
                if len(said) > bytes_max:
                    raise Unanswered(f"its answer has more than {bytes_max} bytes")
            return Reply(response.status, _parsed(said), _clock_s(response.headers.get("date"), now))
    except TimeoutError:
        raise Unanswered("there is no answer in time") from None
    except aiohttp.ClientConnectorCertificateError:
        raise Unanswered("its certificate is not trusted (SSL_CERT_FILE may name it, or its authority)") from None
    except aiohttp.ClientHttpProxyError as error:
        raise Unanswered(f"the proxy refuses with {error.status}") from None
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        reason = os.strerror(number) if number and number > 0 else error.strerror
        raise Unanswered((reason or "it cannot be connected to").lower()) from None
    except (aiohttp.ClientError, ValueError) as error:
        raise Unanswered(f"it does not speak HTTP as expected ({type(error).__name__})") from None


def clock_finding(name: str, reply: Reply) -> Finding | None:
    """How our clock compares with the server's ``Date``, which counts whole seconds; None where it sent none."""
    if reply.clock_s is None:
        return None
    off_s = abs(reply.clock_s)
    if off_s <= CLOCK_OFF_S:
        return ok(name, "The clocks agree.")
    ahead = "ahead of" if reply.clock_s > 0 else "behind"
    return warn(name, f"Its clock is {off_s:.0f} s {ahead} this machine's.", "Let both keep time by NTP.")


def _parsed(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _clock_s(date: str | None, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now if date else None
    except (ValueError, OverflowError):
        return None
