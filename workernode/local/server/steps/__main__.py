"""The step process: ``python -m workernode.local.server.steps FD FLAGS``, started by the HTTP process.

Between two steps it looks at what has come through the pipe; when there is nothing to step it waits for it. It ends
when the pipe does.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import Flags
from workernode.local.server.pipe import Frames, framed
from workernode.local.server.steps.files import find_folder
from workernode.local.server.words import (
    Cancel,
    Command,
    Embed,
    Ended,
    Figures,
    Progress,
    Refusal,
    Submit,
    Vectors,
    overflown,
)

if TYPE_CHECKING:
    from workernode.local.server.steps.model import Model

_READ_BYTES = 2**20
_NO_MEMORY = "This request does not fit into the model server's memory."
_FIGURES_S = 0.25
_TOKENS_AT_ONCE = 2048
"""Tokens of embeddings between two steps, unless one input alone has more."""


class PipeClosed(Exception):
    """The HTTP process is gone."""


class StepProcess:
    """A pipe, and a model once it is loaded."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._frames = Frames(Command)
        self._encoder = msgspec.msgpack.Encoder()
        self._embeds: deque[tuple[Embed, list[bytes]]] = deque()
        self._told_s = 0.0
        self._telling = threading.Lock()

    def tell(self, *reports: Any) -> None:
        """Send words to the HTTP process."""
        with self._telling:  # while something is loaded another thread tells how far it is
            self._pipe.setblocking(True)
            try:
                self._pipe.sendall(framed(list(reports), self._encoder))
            except OSError:
                raise PipeClosed from None

    def progress(self, state: str, sentence: str, share: float) -> None:
        """Tell how far loading is."""
        with contextlib.suppress(PipeClosed):  # it is noticed when there is something to be done
            self.tell(Progress(state, sentence, share))

    def run(self, model: Model) -> None:
        """Work until the pipe ends."""
        self.tell(model.ready)
        while True:
            busy = bool(self._embeds) or (model.steps is not None and model.steps.busy)
            if not busy:
                self._tell_figures(model, at_once=True)
            for command in self._commands(wait=not busy):
                self._obey(command, model)
            if self._embeds:
                self._embed(model)
            if model.steps is not None and model.steps.busy:
                reports = model.steps.step()
                if reports:
                    self.tell(*reports)
            if busy:
                self._tell_figures(model, at_once=False)

    def _commands(self, *, wait: bool) -> list[Any]:
        self._pipe.setblocking(wait)
        try:
            data = self._pipe.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            raise PipeClosed from None
        if not data:
            raise PipeClosed
        return list(self._frames.feed(data))

    def _obey(self, command: Any, model: Model) -> None:
        if isinstance(command, Embed):
            self._embeds.append((command, []))
        elif isinstance(command, Cancel):
            self._embeds = deque(each for each in self._embeds if each[0].request != command.request)
            if model.steps is not None:
                model.steps.cancel(command.request)
        elif isinstance(command, Submit) and model.steps is not None:
            refusal = model.steps.submit(command)
            if refusal is not None:
                self.tell(refusal)

    def _embed(self, model: Model) -> None:
        """Some inputs of one request, by turns: nobody with a single one waits for somebody's thousands."""
        asked, done = self._embeds.popleft()
        inputs = some_of(asked.inputs[len(done) :])
        try:
            done += model.embed(inputs)
        except Exception as error:
            if isinstance(error, OverflowError):
                refusal = overflown(asked.request)
            elif isinstance(error, MemoryError) or "memory" in str(error).lower():
                refusal = Refusal(asked.request, "out_of_memory", _NO_MEMORY, 503)
            elif model.ready.device == "cpu":
                logging.getLogger(__name__).exception("The model could not be asked for embeddings.")
                refusal = Refusal(asked.request, "internal_error", "The model cannot read one of these inputs.", 500)
            else:
                raise  # a GPU that has failed does nothing more for this process
            self.tell(refusal)
            return
        if len(done) == len(asked.inputs):
            self.tell(Vectors(asked.request, done))
        else:
            self._embeds.append((asked, done))

    def _tell_figures(self, model: Model, *, at_once: bool) -> None:
        """They also show that it goes on, where a request's own words are far apart."""
        if at_once or time.monotonic() > self._told_s + _FIGURES_S:
            self._told_s = time.monotonic()
            self.tell(Figures() if model.steps is None else model.steps.measure())


def some_of(inputs: list[list[int]]) -> list[list[int]]:
    """The first inputs, as many as are taken at once."""
    ends = itertools.accumulate(len(each) for each in inputs)
    return inputs[: max(1, sum(1 for end in ends if end <= _TOKENS_AT_ONCE))]


def main() -> int:
    """Returns 0 when the pipe ended; otherwise the HTTP process has been told why."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    process = StepProcess(socket.socket(fileno=int(sys.argv[1])))
    flags = msgspec.json.decode(sys.argv[2], type=Flags)
    try:
        try:
            folder = find_folder(flags, process.progress)
            from transformers.utils import logging as transformers_logging

            from workernode.local.server.steps.model import load

            transformers_logging.disable_progress_bar()
            model = load(flags, folder, process.progress)
            process.run(model)
        except CannotServe as problem:
            process.tell(Ended(problem.kind, problem.sentence))
        except ImportError as error:
            process.tell(Ended("usage", f"{error.name} is missing: run pip install '.[local]' in the checkout."))
        except MemoryError:
            process.tell(Ended("out_of_memory", "The model server has no memory left."))
    except PipeClosed:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
