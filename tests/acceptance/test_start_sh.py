"""``./start.sh`` and ``./ai.sh`` as a newcomer runs them: real processes in a fresh copy of the checkout."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil
import pytest

from tests.in_process import free_port
from tests.integration.test_tls import make
from tests.pulsar_server import java_options

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("jo") is None and os.environ.get("CI") != "true", reason="jo is not installed"),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand to someone, without anything that was made since."""
    target = tmp_path_factory.mktemp("a fresh clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


class Started:
    """A running ``./start.sh``."""

    def __init__(self, checkout: Path, *arguments: str, **env: str) -> None:
        self.checkout = checkout
        self.ports = {name: free_port() for name in ("PORT", "MANAGEMENT_PORT", "NODE_PORT")}
        self.env = _clean() | {name: str(port) for name, port in self.ports.items()} | env
        self.log = checkout / "start.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                ["./start.sh", *arguments],
                cwd=checkout,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['PORT']}"

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ready(self, within_s: float = 200) -> None:
        """Wait for the words that it is ready."""
        deadline = time.monotonic() + within_s
        while "ready:" not in self.output:
            assert self.process.poll() is None, self.output[-3000:]
            assert time.monotonic() < deadline, self.output[-3000:]
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        """Every process it started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def end(self, number: signal.Signals = signal.SIGINT, within_s: float = 60) -> int:
        """Send a signal, and return the exit code; nothing may be left of what it started."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(within_s)
        _gone, left = psutil.wait_procs(family, timeout=5)
        assert not left, left
        return code

    def kill(self) -> None:
        """For a test that failed."""
        for process in self.family():
            process.kill()
        self.process.kill()
        self.process.wait()

    def ask(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """``./ai.sh`` with its words."""
        return subprocess.run(
            [self.checkout / "ai.sh", *arguments],
            env=_clean() | {"GATEWAY_URL": self.url} | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def _clean() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "JAVA_HOME", "PYTHON", "WORKERNODE_CACHE", "XDG_CACHE_HOME")
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    return {name: os.environ[name] for name in kept if name in os.environ} | pip


class Start(Protocol):
    """``./start.sh`` with these arguments and settings."""

    def __call__(self, *arguments: str, **env: str) -> Started: ...


@pytest.fixture
def start(checkout: Path) -> Iterator[Start]:
    """Starts; what is still running at the end is killed."""
    running: list[Started] = []

    def begin(*arguments: str, **env: str) -> Started:
        running.append(Started(checkout, *arguments, **env))
        return running[-1]

    yield begin
    for started in running:
        started.kill()


def test_a_fresh_clone_answers_whole_and_streamed_and_ctrl_c_leaves_nothing(start: Start) -> None:
    started = start()
    started.ready()
    assert "embedded" in started.output
    assert "curl" in started.output
    whole = started.ask()
    assert whole.returncode == 0, whole.stderr
    assert "static responder" in whole.stdout
    assert "> POST /v1/chat/completions" in whole.stderr
    streamed = started.ask("stream")
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout.rstrip().endswith("data: [DONE]")
    unknown = started.ask(MODEL_NAME="no-such-model")
    assert unknown.returncode != 0
    assert "model_not_found" in unknown.stdout
    assert started.end(signal.SIGINT) == 0
    for port in started.ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_second_start_takes_seconds(start: Start) -> None:
    began = time.monotonic()
    started = start()
    started.ready(within_s=30)
    assert time.monotonic() - began < 30
    assert "Installing" not in started.output
    assert started.end(signal.SIGTERM) == 0


def test_gateway_and_management_over_tls_are_ready_and_answer_who_trusts_them(start: Start, tmp_path: Path) -> None:
    pair = make(tmp_path / "pair")
    started = start(**pair.env(), **pair.env("MANAGEMENT_"))
    started.ready()
    url = f"https://127.0.0.1:{started.ports['PORT']}"
    assert f"ready: gateway {url}, management https://" in started.output
    (line,) = [line for line in started.output.splitlines() if "curl -s" in line]
    tried = subprocess.run(["bash", "-c", line.partition("try:")[2]], capture_output=True, text=True, check=True)
    assert "static responder" in tried.stdout
    for arguments in ((), ("stream",)):
        trusting = started.ask(*arguments, GATEWAY_URL=url, CURL_CA_BUNDLE=str(pair.certificate))
        assert trusting.returncode == 0, trusting.stderr
    strange = started.ask(GATEWAY_URL=url)
    assert strange.returncode != 0
    assert "certificate" in strange.stderr
    assert started.end(signal.SIGTERM) == 0


@pytest.mark.pulsar
def test_processes_on_a_real_pulsar_answer_from_a_real_upstream(start: Start, pulsar_url: str) -> None:
    port = free_port()
    upstream = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_upstream", "--port", str(port)], cwd=ROOT, start_new_session=True
    )
    try:
        started = start(
            PULSAR_URL=pulsar_url,
            RES_TOPIC_NAME=f"results-{port}",
            NODE_TYPE="remote",
            API_URL=f"http://127.0.0.1:{port}",
            API_KEY="a-key-that-nobody-sees",
            MODEL_NAME=f"model-{port}",
            API_KEYS="tester:sk-a-client-key",
            GATEWAY_PROCESSES="2",
        )
        started.ready()
        asked = {"MODEL_NAME": f"model-{port}", "GATEWAY_KEY": "sk-a-client-key", "PROMPT": "r1 tokens=3"}
        for arguments in ((), ("stream",)):
            answer = started.ask(*arguments, **asked)
            assert answer.returncode == 0, answer.stdout + answer.stderr
            assert "sk-a-client-key" not in answer.stderr
        assert "r1 t0 t1 t2" in started.ask(**asked).stdout
        assert started.ask(**{**asked, "GATEWAY_KEY": "wrong-key-entirely"}).returncode != 0
        roles = {line.split("|")[0].strip() for line in started.output.splitlines() if "|" in line}
        assert {"gateway", "node", "management"} <= roles
        assert all(f"gateway[{number}]: The gateway takes requests." in started.output for number in (1, 2))
        assert started.end(signal.SIGTERM) == 0
        assert "a-key-that-nobody-sees" not in started.output
        assert "sk-a-client-key" not in started.output
    finally:
        upstream.terminate()
        upstream.wait()


@pytest.mark.pulsar
def test_a_broker_of_its_own_through_maven(start: Start, pulsar_url: str) -> None:
    ports = {"PULSAR_PORT": str(free_port()), "PULSAR_ADMIN_PORT": str(free_port())}
    started = start("--pulsar", "maven", JDK_JAVA_OPTIONS=java_options(), **ports)
    started.ready()
    assert started.ask().returncode == 0
    assert started.end(signal.SIGINT) == 0


def test_a_port_in_use_is_named_with_its_setting(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = start(PORT=str(port))
        assert started.process.wait(30) == 3
        assert f"{port}" in started.output
        assert "PORT" in started.output


def test_a_wrong_setting_is_named(start: Start) -> None:
    started = start(NODE_TYPE="remote", API_URL="not-a-url")
    assert started.process.wait(60) == 2
    assert "API_URL" in started.output


def test_an_unreachable_broker_is_named(start: Start) -> None:
    port = free_port()
    started = start(PULSAR_URL=f"pulsar://127.0.0.1:{port}")
    assert started.process.wait(60) == 4
    assert str(port) in started.output


def test_docker_without_a_daemon_says_so(start: Start) -> None:
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        pytest.skip("a Docker daemon is running here")
    started = start("docker")
    assert started.process.wait(60) == 6
    assert "ocker" in started.output
