"""A tiny model's steps in this process, and what they say to requests."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from workernode.local.server.flags import read
from workernode.local.server.steps.files import find_folder
from workernode.local.server.steps.model import load
from workernode.local.server.words import Pieces, PromptLogprobs, Refusal, Sampling, Submit

if TYPE_CHECKING:
    from pathlib import Path

    from workernode.local.server.steps.model import Model
    from workernode.local.server.words import Piece

GREEDY = Sampling(max_tokens=40, temperature=0.0, ignore_eos=True)


def loaded(folder: Path, *flags: str) -> Model:
    """The model of a directory."""
    asked = read(["--model", str(folder), "--threads", "1", *flags], {})
    return load(asked, find_folder(asked, lambda *_: None), lambda *_: None)


def prompts(count: int, seed: int = 1) -> list[list[int]]:
    """Prompts of any lengths, without special tokens."""
    luck = random.Random(seed)
    return [[luck.randrange(3, 300) for _ in range(luck.randrange(1, 150))] for _ in range(count)]


class Answers:
    """What came of requests, by their numbers, and in how many steps."""

    def __init__(self, model: Model) -> None:
        assert model.steps is not None
        self.steps = model.steps
        self.pieces: dict[int, list[Piece]] = {}
        self.others: list[Any] = []
        self.count = 0

    def submit(self, number: int, prompt: list[int], sampling: Sampling, **more: Any) -> None:
        """Let one join."""
        refusal = self.steps.submit(Submit(number, prompt, sampling, **more))
        if refusal is not None:
            self.others.append(refusal)

    def step(self) -> None:
        """One step."""
        self.count += 1
        for report in self.steps.step():
            if isinstance(report, Pieces):
                for piece in report.pieces:
                    self.pieces.setdefault(piece.request, []).append(piece)
            else:
                assert isinstance(report, (PromptLogprobs, Refusal))
                self.others.append(report)

    def finish(self) -> Answers:
        """Step until nobody is left."""
        while self.steps.busy:
            self.step()
        return self

    def text(self, number: int, choice: int = 0) -> str:
        """What a choice of a request got."""
        return "".join(piece.text for piece in self.pieces[number] if piece.choice == choice)


def answers(model: Model, *asked: tuple[list[int], Sampling]) -> Answers:
    """All at once, to the end; numbered from 0."""
    found = Answers(model)
    for number, (prompt, sampling) in enumerate(asked):
        found.submit(number, prompt, sampling)
    return found.finish()
