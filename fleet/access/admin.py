"""Telling Pulsar's admin interface what to do."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from broker.access import CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.access import Step

ANSWER_S = 10.0
AGAIN_S = 1.0
_MISSING = 404
_DONE = 409
"""Whatever was to be made is there already."""


class Refused(Exception):
    """The admin interface did not do it: a sentence, and its HTTP status if it answered."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


def patiently(do: Callable[[], None], wait_s: float, say: Callable[[str], None]) -> None:
    """Do what may be repeated until it is done: a broker that starts answers soon, and refuses much for a while.

    ``say`` hears each new reason. Raises :class:`Refused` after ``wait_s``.
    """
    until = time.monotonic() + wait_s
    said = ""
    while True:
        try:
            return do()
        except Refused as why:
            if time.monotonic() >= until:
                raise
            if str(why) != said:
                said = str(why)
                say(said)
        time.sleep(AGAIN_S)


class _HereOnly(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a superuser's token must not go elsewhere, as it would with the other headers."""

    def redirect_request(self, *_: object) -> None:
        return None


class Admin:
    """The admin interface at ``url``, asked with ``token``; ``trusted`` is what an https one is checked with."""

    def __init__(self, url: str, token: str | None, trusted: ssl.SSLContext) -> None:
        self._url = url
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        # The environment's proxy has no business between a broker and its admin, nor with its token.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted), _HereOnly
        )

    def tenant(self, name: str) -> None:
        """Have a tenant that the controller may make topics in. Raises :class:`Refused`."""
        try:
            known: dict[str, Any] = self.ask("GET", f"tenants/{name}")
        except Refused as missing:
            if missing.status != _MISSING:
                raise
            clusters = [each for each in self.ask("GET", "clusters") if each != "global"]
            self.ask("PUT", f"tenants/{name}", {"adminRoles": [CONTROLLER], "allowedClusters": clusters})
            return
        if CONTROLLER not in known["adminRoles"]:
            self.ask("POST", f"tenants/{name}", {**known, "adminRoles": [*known["adminRoles"], CONTROLLER]})

    def take(self, steps: Iterable[Step], say: Callable[[str], None]) -> None:
        """One step after the other; ``say`` hears of each. Raises :class:`Refused`."""
        for step in steps:
            self.ask(step.method, step.path, step.body)
            say(step.command)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What it answers; None if there is already what was to be made. Raises :class:`Refused`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/admin/v2/{path}", data, self._headers, method=method)
        try:
            with self._opener.open(request, timeout=ANSWER_S) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                if error.code == _DONE and method == "PUT":
                    return None
                sentence = f"Pulsar's admin interface answered {error.code} to {method} {path}."
                raise Refused(sentence, error.code) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            remedy = "Set PULSAR_ADMIN_URL."
            if isinstance(reason, ssl.SSLCertVerificationError):
                reason = f"its certificate is not trusted ({reason.verify_message})"
                remedy = "PULSAR_TLS_TRUST_CERTS names the authorities to trust."
            raise Refused(f"Pulsar's admin interface at {self._url} could not be asked: {reason}. {remedy}") from None
