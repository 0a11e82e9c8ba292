"""A node that dies of a word in a prompt, as one does whose model crashes on some input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fleet.__main__
from process.crash import EXIT_CODE
from tests.chaos.poison import MARKER
from workernode.remote.engine import RemoteEngine

if TYPE_CHECKING:
    from workernode.engine import Answer, Job
    from workernode.outcome import Answered, Later, Refused

_answer = RemoteEngine.answer


async def _die_of_it(self: RemoteEngine, job: Job, answer: Answer) -> Answered | Refused | Later:
    if MARKER.encode() in job.request.body:
        os._exit(EXIT_CODE)
    return await _answer(self, job, answer)


if __name__ == "__main__":
    RemoteEngine.answer = _die_of_it  # type: ignore[method-assign]
    fleet.__main__.main()
