"""One event, one line, whatever somebody put into its fields."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, get_args

import pytest

from broker.log_fields import fields
from process.log_lines import Format
from process.logging import OTHERS, OURS, Log, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Sets logging up and returns what is written to standard error."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in (*OURS, *OTHERS)}

    def write(act: Callable[[Log], None], level: str = "info", form: Format | None = "text", **options: Any) -> str:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        set_up(level, form=form, **options)
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
@pytest.mark.parametrize("form", get_args(Format))
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_would_break_or_colour_a_line_is_escaped(
    written: Callable[..., str], evil: str, level: str, form: Format
) -> None:
    def speak(log: Log) -> None:
        getattr(log, level)(f"Heard {evil}.", action="x", user=evil, **{evil: 1})

    text = written(speak, "debug", form)
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert evil not in text
    plain = re.sub(r"\x1b\[\d\d?m", "", text) if form == "colour" else text
    assert all(character.isprintable() for character in plain.rstrip("\n"))


def test_a_value_cannot_pose_as_another_field(written: Callable[..., str]) -> None:
    text = written(lambda log: log.info("Heard.", action="heard", user='x" action="charged" y="\\'))
    assert r'user="x\" action=\"charged\" y=\"\\"' in text


def test_a_line_is_a_time_a_level_a_name_a_sentence_and_fields(written: Callable[..., str]) -> None:
    text = written(lambda log: log.info("A node is gone.", action="node_lost", node="n-1", why=None))
    assert text.endswith(' INFO    gateway: A node is gone. action="node_lost" node="n-1"\n')
    assert text[:5] == "20" + text[2:4] + "-"
    assert text.split(" ")[0].endswith("Z")


def failing(log: Log) -> None:
    prompt = "a prompt in a variable"
    try:
        try:
            raise ValueError("secret words", prompt)
        except ValueError as error:
            raise RuntimeError("other words") from error
    except RuntimeError as error:
        log.error("It failed.", error=error, action="failed")


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("form", get_args(Format))
def test_of_an_error_its_type_and_place_are_told_and_neither_words_nor_variables(
    written: Callable[..., str], level: str, form: Format
) -> None:
    text = written(failing, level, form)
    assert text.count("\n") == 1
    assert "RuntimeError" in text
    assert "test_logging.py" in text
    assert "words" not in text
    assert "prompt" not in text


def test_json_tells_an_error_with_its_cause_as_frames(written: Callable[..., str]) -> None:
    line = json.loads(written(failing, form="json"))
    assert [each["type"] for each in line["exceptions"]] == ["RuntimeError", "ValueError"]
    frame = line["exceptions"][1]["frames"][-1]
    assert frame["file"].endswith("test_logging.py")
    assert frame["function"] == "failing"
    assert isinstance(frame["line"], int)


def test_a_line_of_json_has_the_documented_fields_first(written: Callable[..., str]) -> None:
    text = written(lambda log: log.info("A node is gone.", action="node_lost", busy=3, no=None), form="json", process=2)
    line = json.loads(text)
    assert list(line) == ["time", "level", "logger", "process", "message", "action", "busy"]
    assert (line["level"], line["logger"], line["process"]) == ("info", "gateway", 2)
    assert (line["message"], line["action"], line["busy"]) == ("A node is gone.", "node_lost", 3)


def test_a_stream_that_is_no_terminal_gets_json(written: Callable[..., str]) -> None:
    assert json.loads(written(lambda log: log.info("Heard."), form=None))["message"] == "Heard."


@pytest.mark.parametrize("form", get_args(Format))
def test_secrets_are_masked_wherever_they_stand(written: Callable[..., str], form: Format) -> None:
    def speak(log: Log) -> None:
        log.info("Sent hunter2hunter2.", why=ValueError("hunter2hunter2"), headers="Bearer abcdefghijkl")
        log.info("It is sk-0123456789abcdef.", url="postgresql://me:p-w@host/db", short="none")
        logging.getLogger("aiohttp").warning("with %s", "hunter2hunter2")

    text = written(speak, "debug", form, secrets=["hunter2hunter2", "none"])
    assert "hunter2" not in text
    assert "abcdefghijkl" not in text
    assert "0123456789" not in text
    assert "p-w" not in text
    assert "***" in text
    assert "none" in text
    assert "@host/db" in text


def test_a_level_hides_what_is_below_it(written: Callable[..., str]) -> None:
    def speak(log: Log) -> None:
        log.debug("Detail.")
        log.info("News.")
        log.warning("Trouble.")

    for level, lines in (("debug", 3), ("info", 2), ("warning", 1), ("error", 0)):
        assert written(speak, level).count("\n") == lines


def test_of_a_librarys_words_the_first_line_is_told_and_only_from_its_level_on(written: Callable[..., str]) -> None:
    def speak(_: Log) -> None:
        logging.getLogger("uvicorn.error").info("Started.")
        logging.getLogger("asyncio").debug("Using selector.")
        logging.getLogger("asyncio").error("Exception in callback.\nhandle: <a prompt>")

    text = written(speak, "debug")
    assert text.endswith("asyncio: Exception in callback.\n")
    assert text.count("\n") == 1


def test_the_brokers_lines_carry_named_fields_as_all_do(written: Callable[..., str]) -> None:
    def speak(_: Log) -> None:
        logger = logging.getLogger("broker.pulsar.watch")
        logger.warning("It is lost.", extra=fields("broker_lost", address="pulsar://a", level="forged"))
        logging.getLogger("aiohttp").warning("Odd.", extra={"fields": "of its own"})

    lost, odd = (json.loads(line) for line in written(speak, form="json").splitlines())
    assert (lost["message"], lost["level"]) == ("It is lost.", "warning")
    assert (lost["action"], lost["address"]) == ("broker_lost", "pulsar://a")
    assert odd["message"] == "Odd."
    assert 'It is lost. action="broker_lost" address="pulsar://a"' in written(speak)
