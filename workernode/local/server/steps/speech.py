"""What becomes of a row's tokens: text without broken characters, up to a stop string, and why it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workernode.local.server.words import Logprob, Piece

if TYPE_CHECKING:
    import torch

    from workernode.local.server.steps.detokenizer import Detokenizer
    from workernode.local.server.steps.grammar import Matcher
    from workernode.local.server.steps.row import Row
    from workernode.local.server.steps.sampler import Taste
    from workernode.local.server.steps.stops import Stops


@dataclass(eq=False)
class Speech:
    """One row's way from tokens to text."""

    row: Row
    taste: Taste
    detokenizer: Detokenizer
    stops: Stops
    eos: frozenset[int]
    matcher: Matcher | None = None
    _gathered: Piece | None = None
    _told: bool = False

    def say(self, token: int, logprob: Logprob | None) -> Piece:
        """The row got a token. The piece has a finish reason if it was the last.

        Raises :class:`workernode.local.server.steps.grammar.WrongGrammar`.
        """
        self.row.tokens.append(token)
        self.taste.took(token)
        ended = token in self.eos
        complete = self.matcher is not None and self.matcher.took(token)
        text = "" if ended else self.stops.push(self.detokenizer.push(token))
        reason = None
        if ended or complete or self.stops.stopped:
            reason = "stop"
        elif self.row.generated >= self.row.max_tokens:
            reason = "length"
        if reason is not None and not self.stops.stopped:
            text += self.stops.push(self.detokenizer.flush())
            text += "" if self.stops.stopped else self.stops.flush()
        return Piece(self.row.request, self.row.choice, text, 1, None if logprob is None else [logprob], reason)

    def gather(self, piece: Piece, tokens: int) -> Piece | None:
        """The pieces of so many tokens as one; None while they are fewer. The first and the last wait for nothing."""
        held, self._gathered = self._gathered, None
        if held is not None:
            logprobs = None if held.logprobs is None else held.logprobs + (piece.logprobs or [])
            piece = Piece(
                piece.request,
                piece.choice,
                held.text + piece.text,
                held.tokens + piece.tokens,
                logprobs,
                piece.finish_reason,
            )
        if self._told and piece.tokens < tokens and piece.finish_reason is None:
            self._gathered = piece
            return None
        self._told = True
        return piece


def logprobs_of(logits: torch.Tensor, tokens: list[int], top: int) -> list[Logprob]:
    """For each row of logits the token's own logarithmic probability, and those of the ``top`` likeliest."""
    import torch

    found = torch.log_softmax(logits, dim=-1)
    own = found.gather(-1, torch.tensor(tokens, device=found.device).unsqueeze(-1))[:, 0].tolist()
    if not top:
        return [Logprob(token, value) for token, value in zip(tokens, own, strict=True)]
    best = found.topk(top, dim=-1)
    return [
        Logprob(token, value, list(zip(numbers, values, strict=True)))
        for token, value, numbers, values in zip(tokens, own, best.indices.tolist(), best.values.tolist(), strict=True)
    ]
