"""The API server of the Kubernetes cluster that a process runs in, asked as the process's service account.

The few calls that roles make, over HTTP. The official client would do as well, and add 13 MiB to a node; the
controller, which makes many, has it. Nothing here is imported outside a cluster.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from process.tls import trusting

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

AIMODELS = "/apis/models.workernode.io/v1alpha1/namespaces/{namespace}/aimodels"
"""Where the AIModels of a namespace are."""
APPLY = "application/apply-patch+yaml; charset=utf-8"
"""Server-side apply, of what :func:`encoded` makes."""

ANSWER_S = 5.0
"""How long the API server may take to answer."""
WATCH_S = 300
"""A watch ends after this long, and the list is read again: what a watch has missed is not missed for longer."""
WATCH_END_EXTRA_S = 30.0
EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An object has at most 1.5 MiB in etcd, and somewhat more as JSON."""
SENTENCE_CHARS_MAX = 500
RETRY_S_MIN = 1.0
RETRY_S_MAX = 60.0


class ClusterError(Exception):
    """The API server did not do what was asked. ``status``: its HTTP status, 0 if it could not be reached."""

    def __init__(self, status: int, why: str, retry_after_s: float = 0.0) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(why[:SENTENCE_CHARS_MAX])


class Cluster:
    """One process's way to the API server. ``account`` is the folder with the service account's ``token`` and
    ``ca.crt``; both are read again as they are renewed."""

    def __init__(self, server: str, account: Path, *, answer_s: float = ANSWER_S) -> None:
        self._server = server
        self._account = account
        self._answer = aiohttp.ClientTimeout(total=answer_s)
        self._watching = aiohttp.ClientTimeout(sock_connect=answer_s, sock_read=WATCH_S + WATCH_END_EXTRA_S)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self._server}>"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Any:
        """What the API server answers. Raises :class:`ClusterError`."""
        data = None if body is None else encoded(body)
        try:
            async with self._open().request(
                method,
                self._server + path,
                params=query,
                data=data,
                headers=self._headers(content_type),
                timeout=self._answer,
                allow_redirects=False,
            ) as response:
                await _check(response)
                return msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise await self._unreachable(error) from None

    async def watch(self, path: str, version: str, opened: Callable[[], None]) -> AsyncGenerator[dict[str, Any], None]:
        """Events after a resource version, until the API server ends the watch; ``opened`` is called when it has begun
        to tell of them. Raises :class:`ClusterError`."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        rest = b""
        try:
            async with self._open().get(
                self._server + path,
                params=query,
                headers=self._headers(),
                timeout=self._watching,
                allow_redirects=False,
            ) as response:
                await _check(response)
                opened()
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    if len(rest) > EVENT_BYTES_MAX:
                        raise ClusterError(0, "An event of the API server is too large.")
                    for line in lines:
                        yield _event(line)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise await self._unreachable(error) from None

    async def aclose(self) -> None:
        """Let go of the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            verify: ssl.SSLContext | bool = True
            if self._server.startswith("https:"):
                verify = trusting(self._account / "ca.crt")
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=verify, limit=2))
        return self._session

    def _headers(self, content_type: str = "application/json") -> dict[str, str]:
        token = (self._account / "token").read_text().strip()
        return {"authorization": f"Bearer {token}", "content-type": content_type, "accept": "application/json"}

    async def _unreachable(self, error: Exception) -> ClusterError:
        # A new session reads the authority again, should that be what has changed.
        await self.aclose()
        why = "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return ClusterError(0, why)


def encoded(body: object) -> bytes:
    """JSON that says the same as YAML, for which the API server takes an applied object: YAML refuses a pair of escaped
    surrogates, and refuses or changes some other characters that are not escaped."""
    text = msgspec.json.encode(body).decode()
    return re.sub("[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    try:
        why = msgspec.json.decode(await response.read())["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        why = ""
    try:
        retry_after_s = max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        retry_after_s = 0.0
    raise ClusterError(response.status, str(why) or f"it answered {response.status}", retry_after_s)


def _event(line: bytes) -> dict[str, Any]:
    event = msgspec.json.decode(line, type=dict[str, Any])
    if event.get("type") == "ERROR":
        # 410: what is asked for is too old to be known.
        status = event.get("object", {})
        raise ClusterError(int(status.get("code", 500)), str(status.get("message", "The watch has failed.")))
    return event


class Retries:
    """Pauses between attempts: each twice as long, and half of it at random, so that a fleet does not come at once."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, retry_after_s: float = 0.0) -> float:
        """Seconds to wait; no fewer than the API server wants."""
        longest_s = min(RETRY_S_MIN * 2.0 ** min(self._failures, 10), RETRY_S_MAX)
        self._failures += 1
        return max(retry_after_s, longest_s * random.uniform(0.5, 1.0))

    def worked(self) -> None:
        """The next failure is the first one again."""
        self._failures = 0
