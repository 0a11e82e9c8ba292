"""Which token comes next, for each row by its own settings, whatever the others have.

In this order: repetition penalty, presence and frequency penalties, logit bias, the grammar's mask; temperature, top_k,
top_p, min_p; then the row's own luck. What most rows need is done for all at once, in operations that treat each row by
itself; what few need is done for those alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from workernode.local.server.steps.chance import uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workernode.local.server.words import Sampling

_CANDIDATES = 128
_CANDIDATES_MORE = 8192
"""So many of the likeliest are looked at first, and so many for a row that may choose among more. All are sorted where
that is not enough either: it takes ten times as long."""
_ALL = 2**31
"""More than top_k may be."""
_BLOCK = 512
"""Tokens whose chances are added up first where all may be chosen: sums over a whole vocabulary in float64 take longer
than all the rest."""
_GREEDY_BELOW = 1e-5


@dataclass(eq=False)
class Taste:
    """A row's settings and what they need to remember."""

    sampling: Sampling
    choice: int
    prompt: Sequence[int]
    counts: dict[int, int] = field(default_factory=dict)
    """How often each token was generated."""
    mask: torch.Tensor | None = None
    """The tokens that the grammar allows now, True where it does; None: all."""
    _seen: torch.Tensor | None = None

    @property
    def greedy(self) -> bool:
        """Whether always the likeliest token is taken."""
        return self.sampling.temperature < _GREEDY_BELOW or self.sampling.top_k == 1

    @property
    def bends(self) -> bool:
        """Whether logits are changed before any choice."""
        asked = self.sampling
        penalties = asked.presence_penalty or asked.frequency_penalty or asked.repetition_penalty != 1.0
        return bool(penalties or asked.logit_bias or self.mask is not None)

    def took(self, token: int) -> None:
        """Remember a generated token."""
        self.counts[token] = self.counts.get(token, 0) + 1
        if self._seen is not None and self.counts[token] == 1:
            self._seen = torch.cat([self._seen, self._seen.new_tensor([token])])

    def seen(self, device: torch.device) -> torch.Tensor:
        """The tokens of prompt and answer, some of them twice. A long prompt is read once, and not for each token."""
        if self._seen is None:
            self._seen = torch.tensor(sorted({*self.prompt, *self.counts}), device=device)
        return self._seen


def choose(logits: torch.Tensor, tastes: list[Taste], positions: list[int]) -> list[int]:
    """The next token of each row. ``logits``, (rows, vocabulary), is changed; ``positions`` are where they will stand,
    counted from the beginning of the prompt."""
    for number, taste in enumerate(tastes):
        if taste.bends:
            _bend(logits[number], taste)
    chosen = [0] * len(tastes)
    greedy = [number for number, taste in enumerate(tastes) if taste.greedy]
    if greedy:
        best = _rows(logits, greedy).max(dim=-1).indices  # on a CPU some five times as fast as argmax
        for number, token in zip(greedy, best.tolist(), strict=True):
            chosen[number] = token
    drawing = [number for number, taste in enumerate(tastes) if not taste.greedy]
    if drawing:
        for number, token in zip(drawing, _draw(logits, tastes, positions, drawing), strict=True):
            chosen[number] = token
    return chosen


def _bend(logits: torch.Tensor, taste: Taste) -> None:
    asked = taste.sampling
    if asked.repetition_penalty != 1.0:
        seen = taste.seen(logits.device)
        found = logits[seen]
        penalty = asked.repetition_penalty
        logits[seen] = torch.where(found > 0, found / penalty, found * penalty)
    if taste.counts and (asked.presence_penalty or asked.frequency_penalty):
        tokens = torch.tensor(list(taste.counts), device=logits.device)
        counts = torch.tensor(list(taste.counts.values()), dtype=logits.dtype, device=logits.device)
        logits[tokens] -= asked.frequency_penalty * counts + asked.presence_penalty
    if asked.logit_bias:
        tokens = torch.tensor(list(asked.logit_bias), device=logits.device)
        logits[tokens] += torch.tensor(list(asked.logit_bias.values()), dtype=logits.dtype, device=logits.device)
    if taste.mask is not None:
        logits[~taste.mask] = -torch.inf


def _draw(logits: torch.Tensor, tastes: list[Taste], positions: list[int], drawing: list[int]) -> list[int]:
    device = logits.device
    asked = [tastes[number].sampling for number in drawing]
    scaled = _rows(logits, drawing)
    scaled /= torch.tensor([[each.temperature] for each in asked], device=device)
    chances = torch.softmax(scaled, dim=-1)
    luck = torch.tensor(
        [[uniform(tastes[number].sampling.seed, tastes[number].choice, positions[number])] for number in drawing],
        dtype=torch.float64,
        device=device,
    )
    chosen = [0] * len(drawing)
    free = [n for n, each in enumerate(asked) if not _is_cut(each)]
    if free:
        for number, token in zip(free, _pick_of_all(_rows(chances, free), luck[free]), strict=True):
            chosen[number] = token
    cut = [n for n, each in enumerate(asked) if _is_cut(each)]
    if cut:
        found = _pick_of_best(_rows(chances, cut), _CANDIDATES, [asked[n] for n in cut], luck[cut])
        for number, token in zip(cut, found, strict=True):
            chosen[number] = token
    return chosen


def _is_cut(asked: Sampling) -> bool:
    return asked.top_k > 0 or asked.top_p < 1.0 or asked.min_p > 0.0


def _pick_of_best(chances: torch.Tensor, count: int, asked: list[Sampling], luck: torch.Tensor) -> list[int]:
    """The token for each row, whose choice is cut: of the ``count`` likeliest, and of more where it may be among those.
    In operations on all rows at once: of those there are few, and on a GPU each has its price."""
    size = chances.shape[-1]
    best, tokens = chances.sort(descending=True, stable=True) if count >= size else chances.topk(count)
    before = best.cumsum(-1, dtype=torch.float64) - best
    picked: list[int] = tokens.gather(-1, _pick(_kept(best, before, asked), luck))[:, 0].tolist()
    if count < size:
        ends = torch.stack([best[:, 0].double(), best[:, -1].double(), before[:, -1]], dim=-1).tolist()
        for number, (first, last, passed) in enumerate(ends):
            if _may_choose_among_more(asked[number], count, first, last, passed):
                more = _CANDIDATES_MORE if count < _CANDIDATES_MORE else size
                row = slice(number, number + 1)
                picked[number] = _pick_of_best(chances[row], more, asked[row], luck[row])[0]
    return picked


def _may_choose_among_more(asked: Sampling, count: int, first: float, last: float, passed: float) -> bool:
    """Whether a token beyond the ``count`` likeliest could be chosen: the chances of the first and the last of these,
    and of all before the last together."""
    if 0 < asked.top_k <= count:
        return False
    if asked.top_k > 0 and asked.top_p < 1.0:
        return True  # top_p is a part of what top_k leaves, and that is more than these
    if asked.min_p > 0.0 and last < asked.min_p * first:
        return False
    return not (asked.top_p < 1.0 and passed >= asked.top_p)


def _kept(best: torch.Tensor, before: torch.Tensor, asked: list[Sampling]) -> torch.Tensor:
    """The chances, sorted downwards, with 0 for what may not be chosen. The likeliest always may. ``before`` is the sum
    of those before each."""
    count, device = best.shape[-1], best.device
    top_k = torch.tensor([[each.top_k or _ALL] for each in asked], device=device)
    top_p = torch.tensor([[each.top_p] for each in asked], dtype=torch.float64, device=device)
    min_p = torch.tensor([[each.min_p] for each in asked], device=device)
    places = torch.arange(count, device=device)
    # Of what top_k has left: the fewest that have at least top_p of it.
    last = top_k.clamp(max=count) - 1
    left = torch.where(top_k < _ALL, before.gather(-1, last) + best.gather(-1, last), 1.0)
    beyond = (top_p < 1.0) & (before >= top_p * left) & (places > 0)
    beyond |= (places >= top_k) | (best < min_p * best[:, :1])
    return best.masked_fill(beyond, 0.0)


def _pick(chances: torch.Tensor, luck: torch.Tensor) -> torch.Tensor:
    """The place where the sum of chances passes the luck, for each row, (rows, 1)."""
    sums = chances.cumsum(-1, dtype=torch.float64)
    return _passed(chances, sums, luck * sums[:, -1:])


def _pick_of_all(chances: torch.Tensor, luck: torch.Tensor) -> list[int]:
    """As :func:`_pick`, of a whole vocabulary: first the block, then the place in it."""
    size = chances.shape[-1]
    count = size // _BLOCK
    whole = chances[:, : count * _BLOCK].unflatten(-1, (count, _BLOCK)).sum(-1)
    blocks = torch.cat([whole, chances[:, count * _BLOCK :].sum(-1, keepdim=True)], dim=-1)
    sums = blocks.cumsum(-1, dtype=torch.float64)
    level = luck * sums[:, -1:]
    block = _passed(blocks, sums, level)
    level = (level - (sums - blocks).gather(-1, block)).clamp(min=0.0)
    places = block * _BLOCK + torch.arange(_BLOCK, device=chances.device)
    inside = chances.gather(-1, places.clamp(max=size - 1)).masked_fill(places >= size, 0.0)
    place = _passed(inside, inside.cumsum(-1, dtype=torch.float64), level)
    picked: list[int] = places.gather(-1, place)[:, 0].tolist()
    return picked


def _passed(chances: torch.Tensor, sums: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The first place where the sum of chances is above the level, for each row, (rows, 1)."""
    places = torch.searchsorted(sums, level, right=True)
    # Rounding may lead past the last that has a chance at all.
    last = (chances > 0).to(torch.int8).cumsum(-1, dtype=torch.int64).argmax(-1, keepdim=True)
    return torch.minimum(places, last)


def _rows(tensor: torch.Tensor, numbers: list[int]) -> torch.Tensor:
    """Some rows in ascending order, not copied if they are all."""
    return tensor if len(numbers) == len(tensor) else tensor[numbers]
