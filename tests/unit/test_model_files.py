"""From a model's name to its directory."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read
from workernode.local.server.steps.files import find_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_a_download_that_fails_in_any_way_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client of HTTP raises is neither the hub's error nor the system's, as where a proxy wants a password."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "hub.example")  # an address without http://
    with pytest.raises(CannotServe) as raised:
        find_folder(read(["--model", "someone/model"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"
    assert raised.value.sentence.startswith("someone/model cannot be downloaded: Request URL is missing")


@contextlib.contextmanager
def hub(status: int, code: str) -> Iterator[str]:
    """The address of a hub that answers whatever it is asked in this way."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("x-error-code", code)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        *((status, "GatedRepo", "accept its licence there, or set HF_TOKEN.") for status in (401, 403)),
        *((status, "RepoNotFound", "There is no directory some/model, and the hub does not") for status in (401, 404)),
        (401, "", "set HF_TOKEN."),
        (404, "RevisionNotFound", "some/model has no revision v2 on the hub."),
    ],
)
def test_what_the_hub_does_not_give_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, told: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with hub(status, code) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        with pytest.raises(CannotServe) as raised:
            find_folder(read(["--model", "some/model", "--revision", "v2"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"
    assert told in raised.value.sentence


def test_what_can_be_no_name_on_the_hub_is_told_in_a_sentence() -> None:
    with pytest.raises(CannotServe, match="some/where/else cannot be downloaded: Repo id must be") as raised:
        find_folder(read(["--model", "some/where/else"], {}), lambda *_: None)
    assert raised.value.kind == "model_files"
