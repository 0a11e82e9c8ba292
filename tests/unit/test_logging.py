"""One event, one line, whatever somebody put into its fields."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from process.logging import Log, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Sets logging up and returns what is written to standard error."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("broker", "gateway", "node", "management", "fleet", "uvicorn", "alembic")
    levels = {name: logging.getLogger(name).level for name in names}

    def write(act: Callable[[Log], None], *, debug: bool = False) -> str:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        set_up(debug=debug)
        act(Log("gateway"))
        return stream.getvalue()

    yield write
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


@pytest.mark.parametrize(
    "evil",
    [
        "a\nb",
        "a\r\nb",
        "a\rb",
        "a\x1b[31mb",
        "a\u2028b",
        "a\u2029b",
        "a\u0085b",
        "a\x00b",
        "a\x7fb",
        "a\x9bb",
        "a\u202eb",
        "a\u2066b",
        "a\tb",
        "a\x0bb\x0cb",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_would_break_or_colour_a_line_is_escaped(written: Callable[..., str], evil: str, level: str) -> None:
    text = written(lambda log: getattr(log, level)(f"Heard {evil}.", action="x", user=evil, model=evil), debug=True)
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert evil not in text
    assert all(character.isprintable() for character in text.rstrip("\n"))


def test_a_value_cannot_pose_as_another_field(written: Callable[..., str]) -> None:
    text = written(lambda log: log.info("Heard.", action="heard", user='x" action="charged" y="\\'))
    assert r'user="x\" action=\"charged\" y=\"\\"' in text


def test_a_line_is_a_time_a_level_a_name_a_sentence_and_fields(written: Callable[..., str]) -> None:
    text = written(lambda log: log.info("A node is gone.", action="node_lost", node="n-1", why=None))
    assert text.endswith(' INFO    gateway: A node is gone. action="node_lost" node="n-1"\n')
    assert text[:5] == "20" + text[2:4] + "-"
    assert text.split(" ")[0].endswith("Z")


def failing(log: Log) -> None:
    try:
        raise ValueError("secret words")
    except ValueError as error:
        log.error("It failed.", error=error, action="failed")


def test_an_error_is_named_by_its_type_and_its_words_are_kept_out(written: Callable[..., str]) -> None:
    text = written(failing)
    assert text.endswith('It failed. action="failed" error="ValueError"\n')
    assert text.count("\n") == 1
    assert "secret" not in text


def test_a_traceback_comes_only_with_debug(written: Callable[..., str]) -> None:
    text = written(failing, debug=True)
    assert "Traceback" in text
    assert "secret words" in text


def test_debug_lines_come_only_with_debug(written: Callable[..., str]) -> None:
    assert written(lambda log: log.debug("Detail.")) == ""
    assert "Detail." in written(lambda log: log.debug("Detail."), debug=True)


def test_libraries_stay_at_their_level_with_debug(written: Callable[..., str]) -> None:
    def speak(_: Log) -> None:
        logging.getLogger("uvicorn.error").info("Started.")
        logging.getLogger("asyncio").debug("Using selector.")

    assert written(speak, debug=True) == ""
