"""Requests in, pieces out, one step at a time: what the step process does, without its pipe."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from workernode.local.server.steps.batch import lay_out
from workernode.local.server.steps.grammar import WrongGrammar
from workernode.local.server.steps.row import Row
from workernode.local.server.steps.sampler import Taste, choose
from workernode.local.server.steps.speech import Speech, logprobs_of
from workernode.local.server.steps.stops import Stops
from workernode.local.server.words import Figures, Logprob, Piece, Pieces, PromptLogprobs, Refusal, overflown

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.local.server.steps.attention import CachedAttention
    from workernode.local.server.steps.batch import Batch
    from workernode.local.server.steps.detokenizer import Vocabulary
    from workernode.local.server.steps.forward import Forward
    from workernode.local.server.steps.grammar import Grammars
    from workernode.local.server.steps.schedule import Schedule
    from workernode.local.server.words import Report, Submit

_RATE_WINDOW_S = 5.0
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


class _Overflow(Exception):
    """There is nothing to choose a token by."""


class _Following(NamedTuple):
    """A row's next token; None for one that is only read. ``overflown``: the model's numbers are none."""

    speech: Speech
    token: int | None = None
    logprob: Logprob | None = None
    overflown: bool = False


class Steps:
    """The batch and everybody in it."""

    def __init__(
        self,
        schedule: Schedule,
        forward: Forward,
        attention: CachedAttention,
        vocabulary: Vocabulary,
        grammars: Grammars,
        *,
        eos: frozenset[int],
        stream_interval: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._forward = forward
        self._attention = attention
        self._vocabulary = vocabulary
        self._grammars = grammars
        self._eos = eos
        self._stream_interval = stream_interval
        self._clock = clock
        self._speeches: dict[Row, Speech] = {}
        self._telling: dict[Row, list[Logprob]] = {}
        """Rows that tell of their prompt's tokens too, and what they know so far."""
        self._rate: deque[tuple[float, int]] = deque()
        self.figures = Figures()

    @property
    def busy(self) -> bool:
        """Whether there is anything to step."""
        return bool(self._schedule.running or self._schedule.waiting)

    def submit(self, asked: Submit) -> Refusal | None:
        """Let a request wait for its place, or say why it cannot."""
        sampling = asked.sampling
        try:
            matchers = [sampling.grammar and self._grammars.matcher(sampling.grammar) for _ in range(asked.choices)]
        except WrongGrammar as wrong:
            return _disobeyed(asked.request, wrong)
        self.figures.prompt_tokens += len(asked.prompt)
        for choice, matcher in enumerate(matchers):
            row = Row(asked.request, choice, list(asked.prompt), sampling.max_tokens)
            self._speeches[row] = Speech(
                row,
                Taste(sampling, choice, asked.prompt),
                self._vocabulary.detokenizer(asked.prompt, sampling.shown),
                Stops(sampling.stop),
                frozenset() if sampling.ignore_eos else self._eos,
                matcher or None,
            )
            if asked.prompt_logprobs and choice == 0:
                self._telling[row] = [Logprob(asked.prompt[0], None)]
            self._schedule.add(row)
        return None

    def cancel(self, request: int) -> None:
        """A request leaves: it is in no later step."""
        self._schedule.drop(request)
        for row in [row for row in self._speeches if row.request == request]:
            self._forget(row)

    def step(self) -> list[Report]:
        """One step, and what it gave."""
        began = self._clock()
        try:
            return self._step()
        finally:
            self.figures.busy_seconds += self._clock() - began

    def _step(self) -> list[Report]:
        plan = self._schedule.plan()
        try:
            self._attention.move(plan.moves)
            batch = lay_out(plan.parts)
            wanted = self._wanted(batch)
            logits = self._forward.logits(batch, [place for _, places in wanted for place in places])
            self._schedule.computed(plan)
            reports = self._tell_prompts(wanted, logits)
            following = self._following(wanted, logits)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            self._schedule.take_back(plan)
            return self._shrink()
        self.figures.steps += 1
        pieces, refusals = self._continue(following)
        return [*reports, *refusals, Pieces(pieces)] if pieces else [*reports, *refusals]

    def measure(self) -> Figures:
        """The figures as of now."""
        now = self._clock()
        while self._rate and self._rate[0][0] < now - _RATE_WINDOW_S:
            self._rate.popleft()
        extents = self._schedule.extents
        running = {row.request for row in self._schedule.running}
        self.figures.running = len(running)
        # Not those of which only more choices wait: for their own first one's prompt, mostly.
        self.figures.waiting = len({row.request for row in self._schedule.waiting} - running)
        self.figures.kv_cache_use = extents.used / extents.tokens
        self.figures.tokens_per_second = sum(count for _, count in self._rate) / _RATE_WINDOW_S
        return self.figures

    def _wanted(self, batch: Batch) -> list[tuple[Row, list[int]]]:
        """For each row the tokens of the batch whose logits are needed; the last of a part that yields is the last."""
        wanted = []
        first = 0
        for part in batch.order:
            count = part.end - part.start
            if part.row in self._telling and part.row.generated == 0:
                wanted.append((part.row, list(range(first, first + count))))
            elif part.yields:
                wanted.append((part.row, [first + count - 1]))
            first += count
        return wanted

    def _tell_prompts(self, wanted: list[tuple[Row, list[int]]], logits: torch.Tensor) -> list[Report]:
        reports: list[Report] = []
        first = 0
        for row, places in wanted:
            told = self._telling.get(row)
            if told is not None and row.generated == 0:
                del told[row.computed - len(places) + 1 :]  # a row that was postponed tells anew
                following = row.tokens[len(told) : len(told) + len(places)]
                top = self._speeches[row].taste.sampling.top_logprobs or 0
                told += logprobs_of(logits[first : first + len(following)], following, top)
                if row.computed == row.prompt_length:
                    reports.append(PromptLogprobs(row.request, told))
            first += len(places)
        return reports

    def _following(self, wanted: list[tuple[Row, list[int]]], logits: torch.Tensor) -> list[_Following]:
        """What comes next for every row whose tokens are all computed. Changes no row: memory may run out here too."""
        ends, last = [], -1
        for row, places in wanted:
            last += len(places)
            if row.computed == len(row.tokens):
                ends += [(each, last) for each in (row, *self._schedule.share(row))]
        silent = [
            _Following(self._speeches[row], overflown=bool(logits[place, 0].isnan()))
            for row, place in ends
            if row.max_tokens == 0
        ]
        ends = [(row, place) for row, place in ends if row.max_tokens > 0]
        if not ends:
            return silent
        speeches = [self._speeches[row] for row, _ in ends]
        own = logits[[place for _, place in ends]]
        overflows = own[:, 0].isnan().tolist()  # where one is NaN, all are
        # By how many are told, and not the most for all: which of equally likely ones are found depends on it.
        telling: dict[int, list[int]] = {}
        for number, speech in enumerate(speeches):
            if (top := speech.taste.sampling.top_logprobs) is not None:
                telling.setdefault(top, []).append(number)
        untouched = {top: own[numbers] for top, numbers in telling.items()}
        for speech in speeches:
            if speech.matcher is not None:
                speech.taste.mask = speech.matcher.mask().to(own.device)
        tokens = choose(own, [each.taste for each in speeches], [len(row.tokens) for row, _ in ends])
        logprobs: dict[int, Logprob] = {}
        for top, numbers in telling.items():
            found = logprobs_of(untouched[top], [tokens[number] for number in numbers], top)
            logprobs.update(zip(numbers, found, strict=True))
        return silent + [
            _Following(speech, tokens[number], logprobs.get(number), overflows[number])
            for number, speech in enumerate(speeches)
        ]

    def _continue(self, following: list[_Following]) -> tuple[list[Piece], list[Refusal]]:
        """Every row goes on by its next token, or ends."""
        pieces, refusals = [], []
        self._count(sum(each.token is not None for each in following))
        for each in following:
            row = each.speech.row
            if row not in self._speeches:
                continue  # its request was refused for another choice
            try:
                piece = self._piece(each)
            except WrongGrammar as wrong:
                self.cancel(row.request)
                refusals.append(_disobeyed(row.request, wrong))
                continue
            except _Overflow:
                self.cancel(row.request)
                refusals.append(overflown(row.request))
                continue
            if piece is None:
                continue
            if piece.finish_reason is not None:
                self._schedule.leave(row)
                self._forget(row)
            pieces.append(piece)
        return pieces, refusals

    def _piece(self, each: _Following) -> Piece | None:
        speech = each.speech
        if each.overflown:
            raise _Overflow
        if each.token is None:
            return Piece(speech.row.request, speech.row.choice, "", 0, None, "length")
        return speech.gather(speech.say(each.token, each.logprob), self._stream_interval)

    def _shrink(self) -> list[Report]:
        """The step did not fit into memory: fewer go on, and a request that does not even fit alone is refused."""
        self.figures.out_of_memory += 1
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        row = self._schedule.out_of_memory()
        if row is None:
            return []
        self.cancel(row.request)
        # It was alone, and will not fit the next time either.
        sentence = "This request does not fit into the model server's memory, not even alone."
        return [Refusal(row.request, "out_of_memory", sentence, 400)]

    def _forget(self, row: Row) -> None:
        self._speeches.pop(row, None)
        self._telling.pop(row, None)

    def _count(self, tokens: int) -> None:
        self.figures.generated_tokens += tokens
        self._rate.append((self._clock(), tokens))
        if self._rate[0][0] < self._clock() - _RATE_WINDOW_S:
            self._rate.popleft()


def _disobeyed(request: int, wrong: WrongGrammar) -> Refusal:
    return Refusal(request, "invalid_value", f"The schema cannot be obeyed: {wrong}", 400, "response_format")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error).lower() for words in _NO_MEMORY
    )
