"""``POST /v1/completions``: what follows a text, or several."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workernode.local.server.front import grammars
from workernode.local.server.front.asked import Completion, read, sampling_of
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.room import Room, usage
from workernode.local.server.words import Logprob, PromptLogprobs, Submit

if TYPE_CHECKING:
    from workernode.local.server.front.client import Call
    from workernode.local.server.front.sending import Sender

_CHOICES_MAX = 2048
_TOKENS_DEFAULT = 16
"""Of an answer whose request does not say; OpenAI's and vLLM's."""


@dataclass
class _Choice:
    text: str = ""
    logprobs: list[Logprob] = field(default_factory=list)
    finish_reason: str | None = None
    offset: int = 0
    """Where in the text the next token begins that is told of."""
    begins: bool = False
    """Whether no text stands before that token."""

    @property
    def mean_logprob(self) -> float:
        values = [each.logprob for each in self.logprobs if each.logprob is not None]
        return sum(values) / max(1, len(values))


async def answer(room: Room, body: bytes, sender: Sender) -> None:
    """Continue the prompts, whole or as a stream. Raises :class:`Problem`."""
    room.require_text()
    asked = read(body, Completion)
    shown = asked.n or 1
    choices = max(shown, asked.best_of or 1)
    if asked.best_of is not None and (asked.best_of < shown or (asked.stream and choices > shown)):
        raise Problem("best_of must not be smaller than n, and is 1 in a stream.", param="best_of")
    prompts = await asyncio.to_thread(prompts_of, room, asked.prompt)  # long ones take seconds
    if len(prompts) * choices > _CHOICES_MAX:
        raise Problem(f"That makes more than {_CHOICES_MAX} answers.", param="n")
    async with room.client.call() as call:
        made = [
            [_Choice(begins=bool(asked.echo) or room.tokens.is_textless(tokens)) for _ in range(choices)]
            for _, tokens in prompts
        ]
        numbers = {_submit(room, asked, call, tokens, choices): place for place, (_, tokens) in enumerate(prompts)}
        answering = _Answering(room, asked, call, numbers, prompts, made)
        if asked.stream:
            await answering.stream(sender)
        else:
            await answering.whole(sender, shown)


def prompts_of(room: Room, field_: Any) -> list[tuple[str, list[int]]]:
    """The prompts as texts and tokens. Raises :class:`Problem`."""
    if isinstance(field_, str) or (field_ and isinstance(field_[0], int)):
        field_ = [field_]
    if not field_:
        raise Problem("There is no prompt.", param="prompt")
    return [_prompt(room, each) for each in field_]


def _prompt(room: Room, each: Any) -> tuple[str, list[int]]:
    if isinstance(each, str):
        return each, room.tokens.or_begin(room.tokens.of_text(each))
    if not isinstance(each, list) or not all(type(token) is int for token in each):
        raise Problem("A prompt is a text, or a list of tokens.", param="prompt")
    if not all(0 <= token < room.ready.vocabulary for token in each):
        raise Problem(f"Tokens go from 0 to {room.ready.vocabulary - 1}.", param="prompt")
    return room.tokens.text(each), room.tokens.or_begin(each)


def _submit(room: Room, asked: Completion, call: Call, tokens: list[int], choices: int) -> int:
    top = asked.logprobs
    if top is None and (asked.best_of or 1) > (asked.n or 1):
        top = 0
    sampling = sampling_of(
        asked,
        ready=room.ready,
        prompt_tokens=len(tokens),
        max_tokens=_TOKENS_DEFAULT if asked.max_tokens is None else asked.max_tokens,
        top_logprobs=top,
        grammar=grammars.of_response_format(asked.response_format),
        seed=room.flags.seed,
    )
    told = bool(asked.echo) and asked.logprobs is not None
    return call.submit(lambda number: Submit(number, tokens, sampling, choices, told))


class _Answering:
    def __init__(
        self,
        room: Room,
        asked: Completion,
        call: Call,
        numbers: dict[int, int],
        prompts: list[tuple[str, list[int]]],
        made: list[list[_Choice]],
    ) -> None:
        self._room = room
        self._asked = asked
        self._call = call
        self._numbers = numbers
        self._prompts = prompts
        self._made = made
        self._told: dict[int, list[Logprob]] = {}
        self._generated = 0
        self._head = room.head("text_completion", "cmpl")

    async def whole(self, sender: Sender, shown: int) -> None:
        while await self._piece() is not None:
            pass
        choices = []
        for place, made in enumerate(self._made):
            best = sorted(made, key=lambda choice: -choice.mean_logprob)[:shown] if len(made) > shown else made
            for number, choice in enumerate(best):
                logprobs = self._told.get(place, []) + choice.logprobs
                text = (self._prompts[place][0] if self._asked.echo else "") + choice.text
                choices.append(self._choice(place * shown + number, text, logprobs, choice))
                choices[-1]["finish_reason"] = choice.finish_reason
        await sender.whole(self._head | {"choices": choices, "usage": self._usage()})

    async def stream(self, sender: Sender) -> None:
        if self._asked.usage_asked:
            self._head["usage"] = None
        begun: set[int] = set()
        while (found := await self._piece()) is not None:
            place, number, piece = found
            index = place * len(self._made[place]) + number
            text, logprobs = piece.text, piece.logprobs or []
            if index not in begun:
                begun.add(index)
                if self._asked.echo:
                    text = self._prompts[place][0] + text
                    logprobs = self._told.get(place, []) + logprobs
            if not text and not logprobs and piece.finish_reason is None:
                continue
            choice = self._choice(index, text, logprobs, self._made[place][number])
            choice["finish_reason"] = piece.finish_reason
            await sender.chunk(self._head | {"choices": [choice]})
        if self._asked.usage_asked:
            await sender.chunk(self._head | {"choices": [], "usage": self._usage()})
        await sender.done()

    async def _piece(self) -> tuple[int, int, Any] | None:
        """The next piece with its prompt and choice, kept too; None when all have ended."""
        while any(choice.finish_reason is None for made in self._made for choice in made):
            word = await self._call.word()
            place = self._numbers[word.request]
            if isinstance(word, PromptLogprobs):
                self._told[place] = word.logprobs
                continue
            choice = self._made[place][word.choice]
            choice.text += word.text
            word.logprobs = self._room.tokens.told(word.logprobs or [])
            choice.logprobs += word.logprobs
            choice.finish_reason = word.finish_reason
            self._generated += word.tokens
            return place, word.choice, word
        return None

    def _usage(self) -> dict[str, int]:
        return usage(sum(len(tokens) for _, tokens in self._prompts), self._generated)

    def _choice(self, index: int, text: str, logprobs: list[Logprob], choice: _Choice) -> dict[str, Any]:
        shown = None
        if self._asked.logprobs is not None:
            tokens = self._room.tokens
            names = [tokens.shown(each.token) for each in logprobs]
            offsets = []
            for each in logprobs:
                offsets.append(choice.offset)
                choice.offset += tokens.length(each.token, begins=choice.begins)
                choice.begins = choice.begins and tokens.is_textless([each.token])
            shown = {
                "tokens": names,
                "token_logprobs": [each.logprob for each in logprobs],
                "top_logprobs": [self._top(each) for each in logprobs],
                "text_offset": offsets,
            }
        return {"index": index, "text": text, "logprobs": shown}

    def _top(self, told: Logprob) -> dict[str, float] | None:
        if told.logprob is None:
            return None
        found: dict[str, float] = {}
        # The token itself is always among them; of several with one name the likeliest is told, which comes first.
        for token, value in (*told.top, (told.token, told.logprob)):
            found.setdefault(self._room.tokens.shown(token), value)
        return found
