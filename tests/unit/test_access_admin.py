"""Granting at a broker that has only just begun to start."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fleet.access import admin
from fleet.access.admin import Refused, patiently
from fleet.access.command import access

if TYPE_CHECKING:
    from collections.abc import Iterator


class Starting(http.server.BaseHTTPRequestHandler):
    """Refuses whatever it is asked for the first time."""

    asked: list[str]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        step = f"{self.command} {self.path}"
        is_first = step not in self.asked
        self.asked.append(step)
        body = b'["standalone"]' if self.path.endswith("/clusters") else b'{"adminRoles": [], "allowedClusters": []}'
        self.send_response(500 if is_first else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends whoever asks to another host, and is that one as well."""

    tokens: list[str | None]

    def do_GET(self) -> None:
        self.tokens.append(self.headers["authorization"])
        self.send_response(302)
        self.send_header("location", f"http://localhost:{self.connection.getsockname()[1]}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(admin, "AGAIN_S", 0.01)
    with served(type("Handler", (Starting,), {"asked": []})) as url:
        yield url


def _env(url: str) -> dict[str, str]:
    return {
        "PULSAR_ADMIN_URL": url,
        "PULSAR_NAMESPACE_REQUESTS": "requests",
        "PULSAR_NAMESPACE_LINKS": "links",
        "PULSAR_NAMESPACE_RESULTS": "results",
    }


def test_each_step_is_tried_until_the_broker_takes_it(starting: str) -> None:
    ran = CliRunner().invoke(access, ["--wait-s", "20"], env=_env(starting))
    assert ran.exit_code == 0, ran.output
    assert "answered 500 to GET tenants/public. Trying again." in ran.stderr
    assert "topics grant-permission persistent://public/results/results" in ran.stdout


def test_without_waiting_the_first_refusal_is_the_end(starting: str) -> None:
    ran = CliRunner().invoke(access, env=_env(starting))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == "Pulsar's admin interface answered 500 to GET tenants/public.\n"


def test_a_tenant_is_missing_only_where_the_broker_says_so(starting: str) -> None:
    ran = CliRunner().invoke(access, env=_env(starting) | {"PULSAR_TENANT": "team-404"})
    assert (ran.exit_code, ran.stderr) == (1, "Pulsar's admin interface answered 500 to GET tenants/team-404.\n")


def test_the_administrators_token_is_shown_to_no_other_host() -> None:
    tokens: list[str | None] = []
    with served(type("Handler", (Elsewhere,), {"tokens": tokens})) as url:
        ran = CliRunner().invoke(access, env=_env(url) | {"PULSAR_TOKEN": "token-of-the-administrator"})
    assert tokens == ["Bearer token-of-the-administrator"]
    assert (ran.exit_code, ran.stderr) == (1, "Pulsar's admin interface answered 302 to GET tenants/public.\n")


def test_no_token_is_shown_to_an_address_that_was_only_guessed() -> None:
    env = _env("") | {"PULSAR_URL": "pulsar+ssl://127.0.0.1:6651", "PULSAR_TOKEN": "token-of-the-administrator"}
    ran = CliRunner().invoke(access, env=env)
    assert ran.exit_code == 2
    assert "Set PULSAR_ADMIN_URL" in ran.stderr
    assert CliRunner().invoke(access, ["--show"], env=env).exit_code == 0


def test_a_reason_is_told_once_until_there_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "AGAIN_S", 0.0)
    reasons = ["One.", "One.", "Another."]
    said: list[str] = []

    def do() -> None:
        if reasons:
            raise Refused(reasons.pop(0))

    patiently(do, 20, said.append)
    assert said == ["One.", "Another."]
