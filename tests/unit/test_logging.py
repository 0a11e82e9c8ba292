"""One event, one line, whatever somebody put into its fields."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, get_args

import pytest

import gateway.keys.api_keys
import management.access
from broker.log_fields import fields
from process.log_lines import FRAMES_MAX, FRAMES_SHOWN, SECRET_CHARS_MIN, Format
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


@pytest.mark.parametrize("form", get_args(Format))
def test_of_all_of_unicode_no_character_breaks_a_line_or_turns_its_direction(
    written: Callable[..., str], form: Format
) -> None:
    turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    characters = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    evil = {
        each
        for each in characters
        if unicodedata.category(each) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(each) in turning
    }
    assert len(evil) == 65 + 2 + len(turning)
    text = written(lambda log: log.info("Heard.", user="".join(evil)), form=form)
    assert evil.intersection(text) <= ({"\n", "\x1b"} if form == "colour" else {"\n"})


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


def deep(log: Log) -> None:
    def innermost() -> None:
        raise ValueError

    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        innermost()

    try:
        down(2 * FRAMES_MAX)
    except ValueError as error:
        log.error("It failed.", error=error)


def test_of_many_frames_the_innermost_are_told(written: Callable[..., str]) -> None:
    (told,) = json.loads(written(deep, form="json"))["exceptions"]
    assert [frame["function"] for frame in told["frames"]] == ["down"] * (FRAMES_MAX - 1) + ["innermost"]
    at = written(deep).partition('at="')[2]
    assert at.count("test_logging.py") == FRAMES_SHOWN
    assert at.endswith(' innermost" error="ValueError"\n')


def test_errors_that_name_one_another_as_cause_are_told_once_each(written: Callable[..., str]) -> None:
    error = ValueError()
    error.__cause__ = RuntimeError()
    error.__cause__.__context__ = error
    line = json.loads(written(lambda log: log.error("It failed.", error=error), form="json"))
    assert [each["type"] for each in line["exceptions"]] == ["ValueError", "RuntimeError"]


def test_a_cause_that_was_taken_back_is_not_told(written: Callable[..., str]) -> None:
    def speak(log: Log) -> None:
        try:
            try:
                raise KeyError
            except KeyError:
                raise ValueError from None
        except ValueError as error:
            log.error("It failed.", error=error)

    assert [each["type"] for each in json.loads(written(speak, form="json"))["exceptions"]] == ["ValueError"]


def test_no_field_takes_the_place_of_what_every_line_has(written: Callable[..., str]) -> None:
    def speak(log: Log) -> None:
        log.info("Heard.", time="never", level="forged", logger="forged", action="heard")

    line = json.loads(written(speak, form="json"))
    assert (line["level"], line["logger"], line["action"]) == ("info", "gateway", "heard")
    assert line["time"].endswith("Z")


def test_fields_stand_in_the_order_in_which_they_were_given(written: Callable[..., str]) -> None:
    def speak(log: Log) -> None:
        log.info("Heard.", action="heard", zone="z", apple="a")

    assert written(speak).endswith('Heard. action="heard" zone="z" apple="a"\n')


def test_which_of_several_processes_speaks_stands_behind_its_name(written: Callable[..., str]) -> None:
    def speak(log: Log) -> None:
        log.info("One ended.", action="ended", process=3)

    assert written(speak, process=2).endswith(' gateway[2]: One ended. action="ended"\n')
    assert written(speak).endswith(' gateway: One ended. process="3" action="ended"\n')


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


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_secret_that_begins_with_another_one_nothing_is_left(written: Callable[..., str], order: int) -> None:
    secrets = ["hunter2hunter2", "hunter2hunter2-and-more"][::order]
    text = written(lambda log: log.info("Sent hunter2hunter2-and-more."), secrets=secrets)
    assert text.endswith(" Sent ***.\n")


def test_the_shortest_key_that_is_allowed_is_masked(written: Callable[..., str]) -> None:
    assert min(gateway.keys.api_keys.KEY_CHARS_MIN, management.access.KEY_CHARS_MIN) >= SECRET_CHARS_MIN
    key, placeholder = "k" * SECRET_CHARS_MIN, "n" * (SECRET_CHARS_MIN - 1)
    text = written(lambda log: log.info(f"Sent {key} and {placeholder}."), secrets=[key, placeholder])
    assert text.endswith(f" Sent *** and {placeholder}.\n")


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
