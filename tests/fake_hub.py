"""A hub of models that gives nothing: it says why, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeHub(HTTPServer):
    """Answers everything with ``status``, and the hub's own ``code`` for a reason."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status, self.code = status, code
        self.asked: list[tuple[str, str | None]] = []
        """Paths, and the authorization that came with each."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub: Any = self.server
        hub.asked.append((self.path, self.headers.get("authorization")))
        self.send_response(hub.status)
        self.send_header("x-error-code", hub.code)
        self.send_header("content-length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def fake_hub(status: int, code: str) -> Iterator[FakeHub]:
    """One that answers while the block runs."""
    with FakeHub(status, code) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
