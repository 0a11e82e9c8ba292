"""Commands whose output nobody reads, or nobody can write, and options that are beyond all bounds."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.memory import MemoryBroker, MemoryServer
from dead_letters.deciding import Replayed
from fleet.__main__ import main
from fleet.dead_letters import command
from fleet.dead_letters import replay as again
from fleet.doctor.asking import Reply
from fleet.ledger import command as ledger
from fleet.reports import management
from fleet.reports.management import Management
from fleet.start.printer import Printer
from management.ledger.reconcile import Finding, Reconciled
from wire import codec
from wire.dead_letter import DeadLetter
from wire.number import INTEGER_MAX
from wire.request import Request
from wire.topics import LEDGER, Topics

ROOT = Path(__file__).parents[2]


class Terminal:
    """It knows the characters of Western Europe."""

    def __init__(self) -> None:
        self.shown = ""

    def write(self, text: str) -> int:
        self.shown += text.encode("latin-1").decode("latin-1")
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def run(tmp_path: Path, output: int, *arguments: str, **env: str) -> tuple[int, str]:
    """Exit code, and what it wrote to standard error."""
    own = {"PATH": os.environ["PATH"], "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/fleet.db", **env}
    command = [sys.executable, "-m", "fleet", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=own, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


def test_a_reader_who_has_enough_is_not_the_databases_fault(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, said = run(tmp_path, writing, "keys", "list")
    finally:
        os.close(writing)
    assert (code, said) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_below_the_output_is_told_as_what_it_is(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = run(tmp_path, full.fileno(), "keys", "create", "app")
    assert code in (1, 120), "Python itself ends so where it cannot write"
    assert "The database" not in said
    assert "Standard output has no space left. What was to be done before it was written is done." in said
    with (tmp_path / "list").open("w") as output:
        assert run(tmp_path, output.fileno(), "keys", "list")[0] == 0
    with Path("/dev/full").open("w") as full:
        _, said = run(tmp_path, full.fileno(), "ledger", "reconcile")
    assert "Standard output has no space left." in said
    assert "Traceback" not in said
    assert (tmp_path / "list").read_text().startswith("app ")


def test_a_terminal_that_does_not_know_all_characters_gets_the_others(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        for arguments in (("create", "app"), ("list",)):
            assert run(tmp_path, theirs, "keys", *arguments, PYTHONIOENCODING="latin-1")[0] == 0
        assert b"?" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    terminal = Terminal()
    printer = Printer(terminal)  # type: ignore[arg-type]
    for line in ("a", "x \u2026 \u00fc", "b"):
        printer.say("node", line)
    printer.close()
    assert [line.partition("| ")[2] for line in terminal.shown.splitlines()] == ["a", "x ? ?", "b"]


def test_what_is_written_to_a_file_loses_no_character(tmp_path: Path) -> None:
    with (tmp_path / "list").open("w") as output:
        for arguments in (("create", "app"), ("list",)):
            assert run(tmp_path, output.fileno(), "keys", *arguments, PYTHONIOENCODING="latin-1")[0] == 0
    written = (tmp_path / "list").read_text(encoding="utf-8")
    assert "…" in written
    assert "?" not in written


@pytest.mark.parametrize(
    "arguments",
    [
        ("ledger", "export", "--after", "99999999999999999999"),
        ("ledger", "reconcile", "--days", "1000000"),
        ("ledger", "reconcile", "--open-min", "99999999999999999999"),
        ("dead-letters", "replay", "req_x", "--model", "m", "--answer", "/not/there/answer.json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(arguments: tuple[str, ...], tmp_path: Path) -> None:
    env = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/fleet.db", "PULSAR_URL": "pulsar://127.0.0.1:1"}
    result = CliRunner(env=env).invoke(main, arguments)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "Invalid value" in result.stderr


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"OTEL_EXPORTER_OTLP_HEADERS": "x-key:SECRETSECRET"}, "OTEL_EXPORTER_OTLP_HEADERS: it is not written as"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "SECRETSECRET"}, "OTEL_EXPORTER_OTLP_HEADERS: it is not written as"),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "abc"}, "OTEL_ATTRIBUTE_COUNT_LIMIT"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "256"}, "max_export_batch_size must be less than or equal to max_queue_size."),
    ],
)
def test_wrong_settings_of_traces_are_told_without_their_secrets(
    tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    traced = {"PULSAR_URL": "memory:", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PORT": "0", **settings}
    code, said = run(tmp_path, subprocess.DEVNULL, "gateway", **traced)
    assert code == 2
    assert sentence in said
    assert "SECRET" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("url", ["http://[::1", "http://", "http://h:99999", "http://u:secret@h:1"])
def test_an_address_of_management_that_can_be_none_is_a_wrong_setting(tmp_path: Path, url: str) -> None:
    code, said = run(tmp_path, subprocess.DEVNULL, "nodes", MANAGEMENT_URL=url)
    assert (code, said.partition(":")[0]) == (2, "MANAGEMENT_URL")
    assert "secret" not in said


def test_the_timeline_of_a_request_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"status": "refused", "error_code": "upstream_refused", "message": "No such voice."}
    event = {"time": "2026-01-31T12:00:00Z", "type": "io.workernode.request.failed", "data": data}
    monkeypatch.setattr(Management, "get", lambda *_: {"events": [{"event": event}]})
    result = CliRunner().invoke(main, ["requests", "req_x"])
    assert result.output.splitlines()[1].endswith("upstream_refused  No such voice.")


ESCAPES = "\x1b]0;owned\x07\x9b31m\r\nreq_forged"
"""What names a terminal's window, colours what follows, and begins a line of its own."""


def letter() -> bytes:
    """A dead letter, as whoever may write to the topic of its model can make one."""
    asked = Request(
        request_id="req_1\x1b[2J",
        model="m",
        endpoint="chat/completions",
        body=b'{"model": "m",\n "messages": "' + "\x9b31m".encode() + b'"}',
        gateway="gateway-gone",
        received_ms=1,
        deadline_ms=1,
        key_id=ESCAPES,
    )
    forged = DeadLetter(request=asked, reason="poison", message=ESCAPES, node="node-gone", at_ms=INTEGER_MAX)
    return codec.encode(forged)


@pytest.mark.parametrize(
    "arguments", [("list",), ("show", "req_1\x1b[2J"), ("show", "req_1\x1b[2J", "--body"), ("replay", "req_1\x1b[2J")]
)
def test_what_others_wrote_moves_no_cursor(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer()
    topic = Topics().dead_letters("m")

    async def write() -> None:
        broker = MemoryBroker(server)
        await broker.ensure(topic, LEDGER)
        await (await broker.producer(topic)).send(letter())

    async def replayed(*_: object) -> Replayed:
        return Replayed("failed", b"", error=("invalid_request_error", ESCAPES))

    asyncio.run(write())
    monkeypatch.setattr(command, "open_broker", lambda *_, **__: MemoryBroker(server))
    monkeypatch.setattr(again, "replay", replayed)
    result = CliRunner(env={"PULSAR_URL": "pulsar://127.0.0.1:1"}).invoke(
        main, ["dead-letters", *arguments, "--model", "m"]
    )
    assert isinstance(result.exception, SystemExit | None)
    assert "owned" in result.output
    assert not any(line.startswith("req_forged") for line in result.output.splitlines())
    assert result.output.replace("\n", "").isprintable()
    if "--body" in arguments:
        assert '{"model": "m",\n "messages": "?31m"}' in result.output


@pytest.mark.parametrize(("limit", "are_more"), [(1, True), (2, True), (3, False)])
def test_a_list_that_is_not_whole_says_so(limit: int, are_more: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer()
    topic = Topics().dead_letters("m")

    async def write() -> None:
        broker = MemoryBroker(server)
        await broker.ensure(topic, LEDGER)
        producer = await broker.producer(topic)
        for payload in (letter(), b"no letter", letter(), letter()):
            await producer.send(payload)

    asyncio.run(write())
    monkeypatch.setattr(command, "open_broker", lambda *_, **__: MemoryBroker(server))
    result = CliRunner(env={"PULSAR_URL": "pulsar://127.0.0.1:1"}).invoke(
        main, ["dead-letters", "list", "--model", "m", "--limit", str(limit), "--json"]
    )
    assert len(json.loads(result.stdout)["data"]) == limit
    assert result.stderr == (f"There are more: these are the first {limit}. See --limit.\n" if are_more else "")


def test_what_the_ledger_holds_of_others_moves_no_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def compared(*_: object) -> Reconciled:
        return Reconciled(without_request=Finding(1, [ESCAPES]))

    monkeypatch.setattr(ledger, "compare", compared)
    result = CliRunner(env={"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/fleet.db"}).invoke(
        main, ["ledger", "reconcile"]
    )
    assert "          ?]0;owned??31m??req_forged\n" in result.output


def test_what_management_tells_of_others_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Management, "act", lambda *_, **__: {"outcome": ESCAPES})
    assert CliRunner().invoke(main, ["cancel", "req_x"]).output == "?]0;owned??31m??req_forged\n"

    async def refused(*_: object, **__: object) -> Reply:
        return Reply(409, {"error": {"message": ESCAPES}}, None)

    monkeypatch.undo()
    monkeypatch.setattr(management, "ask", refused)
    said = CliRunner().invoke(main, ["pause", "node"]).stderr
    assert said == "Management refuses with 409: ?]0;owned??31m??req_forged\n"


def test_the_file_of_a_database_that_nobody_named_is_told_whole(tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fleet", "keys", "list"]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=True)
    assert f"DATABASE_URL is not set: this was {tmp_path}/data/workernode.db" in done.stderr


def test_a_fleet_in_one_process_tells_in_a_sentence_that_its_database_is_newer(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/fleet.db"
    assert run(tmp_path, subprocess.DEVNULL, "keys", "list")[0] == 0
    with sqlite3.connect(tmp_path / "fleet.db") as database:
        database.execute("update alembic_version set version_num = '9999'")
    database.close()
    code, said = run(tmp_path, subprocess.DEVNULL, "up", DATABASE_URL=url, PORT="0", NODE_PORT="0", MANAGEMENT_PORT="0")
    assert code == 2
    assert said.splitlines()[-1].startswith("DATABASE_URL: ")
    assert "Traceback" not in said
