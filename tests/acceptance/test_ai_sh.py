"""ai.sh against a gateway of a few lines: only a complete answer is a success."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "ai.sh"
KEY = "sk-secret-of-the-test"
PART = 'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
END = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = "data: [DONE]\n\n"
ERROR = 'data: {"error":{"message":"the node is gone","type":"server_error"}}\n\n'
WHOLE = '{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'

pytestmark = pytest.mark.skipif(shutil.which("jo") is None, reason="jo is not installed")


class Gateway(ThreadingHTTPServer):
    """Answers every POST with `status` and `answer`; keeps what it was sent, and what a list of processes showed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer = WHOLE
        self.length_beyond = 0
        self.hangs = False
        self.asked = threading.Event()
        """Set when a request that hangs is here."""
        self.left = threading.Event()
        """Set when a client went away before its answer."""
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.command_lines = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        gateway = self.server
        gateway.paths.append(self.path)
        gateway.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        gateway.keys.append(self.headers["Authorization"])
        gateway.command_lines = "\n".join(" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
        if gateway.hangs:
            gateway.asked.set()
            self.connection.recv(1)
            gateway.left.set()
            return
        body = gateway.answer.encode()
        self.send_response(gateway.status)
        self.send_header("Content-Length", str(len(body) + gateway.length_beyond))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(
    gateway: Gateway, *arguments: str, script: Path = SCRIPT, said: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "GATEWAY_URL": gateway.url, **environment}
    command = (str(script), *arguments)
    return subprocess.run(command, env=env, input=said, capture_output=True, text=True, timeout=60, check=False)


def test_a_whole_answer_is_shown_and_is_a_success(gateway: Gateway) -> None:
    asked = ask(gateway)
    assert (asked.returncode, asked.stdout) == (0, WHOLE), asked.stderr
    assert gateway.paths == ["/v1/chat/completions"]
    assert gateway.bodies[0]["model"] == "static"
    assert gateway.bodies[0]["stream"] is False
    assert "< HTTP/1.0 200 OK" in asked.stderr


def test_a_whole_stream_is_a_success(gateway: Gateway) -> None:
    gateway.answer = ": keep-alive\n\n" + PART + END + DONE
    asked = ask(gateway, "stream")
    assert (asked.returncode, asked.stdout) == (0, gateway.answer), asked.stderr
    assert gateway.bodies[0]["stream"] is True


@pytest.mark.parametrize(
    "prompt", ["@/etc/passwd", "true", "-v", '{"a": 1}', "12", "two\nlines, \"ü\" 'x' $HOME", "%x"]
)
def test_a_prompt_arrives_as_it_was_written(gateway: Gateway, prompt: str) -> None:
    asked = ask(gateway, PROMPT=prompt, MODEL_NAME="true")
    assert asked.returncode == 0, asked.stderr
    assert gateway.bodies == [
        {"model": "true", "stream": False, "messages": [{"role": "user", "content": prompt}]},
    ]


def test_a_long_prompt_comes_from_standard_input(gateway: Gateway) -> None:
    prompt = '"\n' * 300_000 + "end"
    asked = ask(gateway, PROMPT="-", said=prompt)
    assert asked.returncode == 0, asked.stderr
    assert gateway.bodies[0]["messages"] == [{"role": "user", "content": prompt}]


@pytest.mark.parametrize("name", ["PROMPT", "MODEL_NAME"])
def test_what_is_not_utf_8_is_not_sent(gateway: Gateway, name: str) -> None:
    wrong: dict[str, str] = {name: "bad \udcff bytes"}
    asked = ask(gateway, script=SCRIPT, said=None, **wrong)
    assert asked.returncode == 2
    assert asked.stderr == "ai.sh: PROMPT and MODEL_NAME cannot be sent, for they are not UTF-8\n"
    assert gateway.bodies == []


def test_a_prompt_that_jo_would_cut_at_a_zero_byte_is_not_sent(gateway: Gateway) -> None:
    asked = ask(gateway, PROMPT="-", said="H\0i\0")
    assert (asked.returncode, asked.stderr) == (2, "ai.sh: PROMPT holds a zero byte: it is a text in UTF-8\n")
    assert gateway.bodies == []


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_text_with_line_ends_of_unicode_is_whole(gateway: Gateway, mark: str, locale: str) -> None:
    gateway.answer = PART.replace("Hi", f"H{mark}i") + END + DONE
    asked = ask(gateway, "stream", LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert asked.returncode == 0, asked.stderr


def test_it_is_found_through_a_link_and_with_a_cdpath(gateway: Gateway, tmp_path: Path) -> None:
    link = tmp_path / "ask"
    link.symlink_to(SCRIPT)
    asked = ask(gateway, script=link, CDPATH=f".:{tmp_path}")
    assert asked.returncode == 0, asked.stderr


def test_this_machine_is_not_asked_through_a_proxy(gateway: Gateway) -> None:
    asked = ask(gateway, http_proxy="http://127.0.0.1:9", no_proxy="other.example")
    assert asked.returncode == 0, asked.stderr


def test_who_ends_it_ends_the_request(gateway: Gateway) -> None:
    gateway.hangs = True
    env = {"PATH": os.environ["PATH"], "GATEWAY_URL": gateway.url}
    with subprocess.Popen([str(SCRIPT)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
        assert gateway.asked.wait(20)
        asking.terminate()
        assert asking.wait(20) == 130
    assert gateway.left.wait(20)


def test_who_reads_no_further_is_not_told_that_the_gateway_is_away(gateway: Gateway) -> None:
    gateway.answer = PART * 50_000 + END + DONE
    env = {"PATH": os.environ["PATH"], "GATEWAY_URL": gateway.url}
    command = f"{SCRIPT} stream | head -1; exit ${{PIPESTATUS[0]}}"
    asked = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 1
    assert asked.stderr.endswith("\nai.sh: the answer was not read to its end\n")


def test_the_key_is_sent_but_neither_printed_nor_on_a_command_line(gateway: Gateway) -> None:
    asked = ask(gateway, GATEWAY_KEY=KEY)
    assert asked.returncode == 0
    assert gateway.keys == [f"Bearer {KEY}"]
    assert "> Authorization: Bearer ***" in asked.stderr
    assert KEY not in asked.stderr + asked.stdout
    assert "curl" in gateway.command_lines
    assert KEY not in gateway.command_lines


@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_error_is_a_failure_that_names_the_status(gateway: Gateway, status: int) -> None:
    gateway.status, gateway.answer = status, '{"error":{"message":"no"}}'
    asked = ask(gateway)
    assert asked.returncode == 1
    assert asked.stderr.endswith(f"ai.sh: the gateway answered with status {status}\n")
    assert asked.stdout == gateway.answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "the answer is not whole JSON"),
        (WHOLE[:-5], "the answer is not whole JSON"),
        ('{"choices":[]}', "the answer has no choices[0].finish_reason"),
        ('{"choices":[{"finish_reason":null}]}', "the answer has no choices[0].finish_reason"),
        ("[]", "the answer has no choices[0].finish_reason"),
    ],
)
def test_an_answer_that_is_not_complete_is_a_failure(gateway: Gateway, answer: str, problem: str) -> None:
    gateway.answer = answer
    asked = ask(gateway)
    assert asked.returncode == 1
    assert asked.stderr.endswith(f"ai.sh: {problem}\n")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "the stream did not end with data: [DONE]"),
        (PART + END, "the stream did not end with data: [DONE]"),
        (PART + ERROR, 'the stream did not end with data: [DONE]: {"message": "the node is gone"'),
        (PART + ERROR + DONE, "the stream holds an error"),
        (PART + DONE, "no part of the stream has a finish_reason"),
        (PART + "data: {\n\n" + DONE, "the answer is not whole JSON"),
    ],
)
def test_a_stream_that_is_not_complete_is_a_failure(gateway: Gateway, answer: str, problem: str) -> None:
    gateway.answer = answer
    asked = ask(gateway, "stream")
    assert asked.returncode == 1
    assert f"ai.sh: {problem}" in asked.stderr.splitlines()[-1]


def test_a_connection_that_ends_early_is_a_failure(gateway: Gateway) -> None:
    gateway.length_beyond = 10
    asked = ask(gateway)
    assert asked.returncode == 1
    assert f"\nai.sh: there was no whole answer from {gateway.url}: curl says above why" in asked.stderr


def test_a_gateway_that_is_not_there_is_named(gateway: Gateway) -> None:
    asked = ask(gateway, GATEWAY_URL="http://127.0.0.1:9")
    assert asked.returncode == 1
    assert "\nai.sh: http://127.0.0.1:9 cannot be reached: does the gateway run (./start.sh)?" in asked.stderr


def test_without_jo_it_says_how_to_install_it(gateway: Gateway, tmp_path: Path) -> None:
    for program in ("bash", "env", "dirname", "readlink", "curl"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    asked = ask(gateway, PATH=str(tmp_path))
    assert asked.returncode == 6
    assert asked.stderr == "ai.sh: jo is missing: install it (apt-get install jo, brew install jo or dnf install jo)\n"


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_who_asks_for_help_is_told_of_everything_it_reads_and_asks_nobody(gateway: Gateway, word: str) -> None:
    asked = ask(gateway, word)
    assert (asked.returncode, asked.stderr, gateway.paths) == (0, "", [])
    read = set(re.findall(r"\$\{([A-Z_]+)", SCRIPT.read_text())) - {"BASH_SOURCE", "NO_PROXY"}
    assert {word for word in read if word not in asked.stdout} == set()
    assert not [line for line in asked.stdout.splitlines() if line.startswith(("#", "set "))]


def test_an_unknown_argument_is_refused(gateway: Gateway) -> None:
    assert ask(gateway, "streem").returncode == 2
    assert gateway.paths == []
