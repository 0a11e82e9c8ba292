"""How the server ends when nobody asked it to: kinds, exit codes, and the last line on standard error."""

from __future__ import annotations

import sys

import msgspec

EXIT_CODES = {
    "internal": 1,
    "usage": 2,
    "out_of_memory": 3,
    "model_files": 4,
    "architecture": 5,
    "no_such_device": 6,
}


class CannotServe(Exception):
    """The server cannot go on: a kind from :data:`EXIT_CODES`, and a sentence."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence


def tell(problem: CannotServe) -> int:
    """Write the last line, and return the exit code."""
    line = msgspec.json.encode({"error": problem.kind, "sentence": problem.sentence}).decode()
    print(line, file=sys.stderr, flush=True)
    return EXIT_CODES[problem.kind]
