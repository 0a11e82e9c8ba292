"""``fleet top`` on a terminal, which it leaves as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from fleet.reports.top import _ENTER, _HOME, _LEAVE
from tests.in_process import free_port
from tests.processes import ROOT


class Terminal:
    """What a command writes on it."""

    def __init__(self) -> None:
        self.shown = ""
        self._ours, self._its = pty.openpty()

    def run(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """Begin a command."""
        given = {"PATH": os.environ["PATH"], "TERM": "xterm", **env}
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdin=self._its, stdout=self._its, stderr=self._its)
        os.close(self._its)
        return process

    def read_until(self, text: str, within_s: float = 30.0) -> None:
        """Wait until it shows that."""
        deadline = time.monotonic() + within_s
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._ours, 4096).decode()
                except OSError:  # nobody has it any more
                    break
        assert text in self.shown, self.shown

    def close(self) -> None:
        """No more is read."""
        os.close(self._ours)


# Its first look is asked to stop while an object is finalised, where what is raised goes nowhere.
_ASKED_WHILE_ONE_IS_FINALISED = """
import signal, weakref
from fleet.reports import top

class Any: ...

async def _screen(management):
    one = Any()
    finalised = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGTERM))
    del one
    return "it goes on"

top._screen = _screen
top.top()
"""


def test_one_that_is_asked_to_stop_while_an_object_is_finalised_stops_too() -> None:
    terminal = Terminal()
    process = terminal.run(sys.executable, "-c", _ASKED_WHILE_ONE_IS_FINALISED)
    try:
        terminal.read_until(_LEAVE)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        terminal.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_whoever_ends_it_has_the_screen_and_the_cursor_back(number: signal.Signals, code: int) -> None:
    terminal = Terminal()
    nobody = f"http://127.0.0.1:{free_port()}"
    process = terminal.run(sys.executable, "-m", "fleet", "top", MANAGEMENT_URL=nobody)
    try:
        terminal.read_until(_HOME)
        assert terminal.shown.startswith(_ENTER)
        terminal.read_until("Management does not answer")  # and it goes on to look
        process.send_signal(number)
        terminal.read_until(_LEAVE)
        assert process.wait(30) == code
        assert terminal.shown.endswith(_LEAVE)
    finally:
        process.kill()
        process.wait()
        terminal.close()
