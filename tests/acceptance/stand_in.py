"""A stand-in for a role: answers /readyz, writes down when it is told to stop, and misbehaves as asked."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    """Run until SIGTERM, SIGUSR1 (die with code 7) or SIGKILL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--die", type=int, help="end at once with this code")
    parser.add_argument("--leave", action="store_true", help="start a process in a session of its own, and forget it")
    parser.add_argument("--beside", action="store_true", help="start a process in our group that ignores SIGTERM")
    asked = parser.parse_args()

    def note(word: str) -> None:
        with asked.journal.open("a") as journal:
            journal.write(f"{asked.name} {word} {os.getpid()}\n")

    sleeper = (sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()")
    for wanted, own_session in ((asked.leave, True), (asked.beside, False)):
        if wanted:
            child = subprocess.Popen(sleeper, start_new_session=own_session)
            with asked.journal.open("a") as journal:
                journal.write(f"{asked.name} left {child.pid}\n")
    print(f"{asked.name} says hello", flush=True)
    note("started")
    if asked.die is not None:
        print("PORT=x is not a number", file=sys.stderr, flush=True)
        os._exit(asked.die)
    stop = threading.Event()

    def told(number: int, frame: object) -> None:
        note("SIGTERM" if number == signal.SIGTERM else "SIGINT")
        if not asked.deaf:
            stop.set()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if asked.never_ready else 200)
            self.end_headers()
            self.wfile.write(b'{"why": "the model is not loaded"}')

        def log_message(self, *_: object) -> None:
            pass

    if asked.port:
        threading.Thread(
            target=ThreadingHTTPServer(("127.0.0.1", asked.port), Health).serve_forever, daemon=True
        ).start()
    while not stop.wait(0.05):
        pass
    note("stopped")


if __name__ == "__main__":
    main()
