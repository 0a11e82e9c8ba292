"""A real Pulsar broker for tests: started, killed and started again on the same data.

``python -m tests.pulsar_server`` keeps the classes that one reads in an archive, once: what starts a broker is mostly
the reading of its classes, a start costs a quarter of the processor's time with it, and a run of all tests has many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pulsar

_RUN = Path(__file__).parent.parent / "deploy" / "pulsar" / "run"
_READY_S = 90.0
_FETCH_S = 600.0
_LOOK_S = 0.1
# Of a broker that lives for minutes, what the better compiler costs is never earned back.
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1"


class PulsarMissing(Exception):
    """What the broker needs is not on this machine."""


class PulsarServer:
    """One standalone broker on free loopback ports, with its data and its log under ``home``.

    All calls block: inside a running loop use them through :func:`asyncio.to_thread`.
    """

    def __init__(self, home: Path, *, settings: str = "", token: str | None = None) -> None:
        """``settings`` are added to those of deploy/pulsar; ``token`` is what the admin needs with them."""
        self.log = home / "broker.log"
        self._data = home / "data"
        self._extra = home / "extra.conf"
        self._extra.write_text(settings, encoding="utf-8")
        self._token = token
        self._port, self._admin_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"pulsar://127.0.0.1:{self._port}"
        self.admin_url = f"http://127.0.0.1:{self._admin_port}"

    @property
    def port(self) -> int:
        """The port of the binary protocol, for a proxy to stand in front of."""
        return self._port

    def start(self) -> None:
        """Start and return when a producer can be made. Raises :class:`PulsarMissing` without Java or Maven."""
        self._start(java_options())

    def archive(self) -> None:
        """Start once, end in order, and leave the classes that were read where :meth:`start` finds them."""
        archive = _archive(_jars())
        if archive.exists():
            return
        with tempfile.TemporaryDirectory(dir=archive.parent) as place:
            fresh = Path(place) / archive.name
            self._start(f"{_JAVA_OPTIONS} -XX:ArchiveClassesAtExit={fresh}")
            process = self._process
            assert process is not None
            process.terminate()
            process.wait(_READY_S)
            fresh.replace(archive)

    def _start(self, options: str) -> None:
        environment = os.environ | {
            "JDK_JAVA_OPTIONS": options,
            "PULSAR_PORT": str(self._port),
            "PULSAR_ADMIN_PORT": str(self._admin_port),
            "PULSAR_DATA": str(self._data),
            "PULSAR_EXTRA_CONF": str(self._extra),
            "PULSAR_MEMORY": "512m",
        }
        with self.log.open("ab") as log:
            # A session of its own: a kill reaches the broker and whatever it started, and nothing else.
            self._process = subprocess.Popen(
                [_RUN],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it; nobody needs its data any more."""
        self._signal(signal.SIGKILL)
        shutil.rmtree(self._data, ignore_errors=True)

    def freeze(self) -> None:
        """Stop it from answering while its connections stay open."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def unload(self, topic: str) -> None:
        """Have the broker let go of a topic and load it again, as it does to balance its load."""
        domain, _, name = topic.partition("://")
        self._ask_admin("PUT", f"{domain}/{name}/unload")

    def subscriptions(self, topic: str) -> list[str]:
        """Who keeps what is published to a topic."""
        domain, _, name = topic.partition("://")
        found: list[str] = json.loads(self._ask_admin("GET", f"{domain}/{name}/subscriptions"))
        return found

    def _ask_admin(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(f"{self.admin_url}/admin/v2/{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: bytes = response.read()
            return answer

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        while not self._healthy():
            if (status := process.poll()) is not None:
                raise AssertionError(f"The broker ended with status {status}: {self._last_words()}")
            if time.monotonic() - started > _READY_S:
                raise AssertionError(f"The broker was not ready in time: {self._last_words()}")
            time.sleep(_LOOK_S)
        _make_a_producer(self.url, self._token)

    def _healthy(self) -> bool:
        try:
            self._ask_admin("GET", "brokers/health")
            self._ask_admin("GET", "namespaces/public/default")
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{' / '.join(lines[-3:])} (see {self.log})"

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, number)
        process.wait()


def _make_a_producer(url: str, token: str | None) -> None:
    authentication = pulsar.AuthenticationToken(token) if token else None
    logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)
    client = pulsar.Client(url, authentication=authentication, logger=logger)
    try:
        client.create_producer("persistent://public/default/readiness").close()
    finally:
        client.close()


def java_options() -> str:
    """What Java shall be told as ``JDK_JAVA_OPTIONS``, for a broker to start soon. Raises :class:`PulsarMissing`."""
    archive = _archive(_jars())
    return f"{_JAVA_OPTIONS} -XX:SharedArchiveFile={archive}" if archive.exists() else _JAVA_OPTIONS


def _jars() -> Path:
    """Where the broker lies, which is fetched if it has to be. Raises :class:`PulsarMissing`."""
    fetched = subprocess.run([_RUN, "--fetch"], capture_output=True, text=True, check=False, timeout=_FETCH_S)
    if fetched.returncode:
        raise PulsarMissing(fetched.stderr.strip().rpartition("\n")[2])
    return Path(fetched.stdout.strip())


def _archive(jars: Path) -> Path:
    """The archive of their classes for this Java, which takes no other one."""
    told = subprocess.run(["java", "-version"], capture_output=True, check=True)
    return jars / f"classes-{hashlib.sha256(told.stderr).hexdigest()[:16]}.jsa"


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        server = PulsarServer(Path(home))
        try:
            server.archive()
        except PulsarMissing as missing:
            sys.exit(f"There is no Pulsar broker: {missing}.")
        finally:
            server.stop()
