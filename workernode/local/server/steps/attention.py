"""Attention over the cache where it lies, as a function that transformers' models call in place of their own.

Decoding rows of equal shape are one call, each piece of a prompt is one. What a row gets is computed with shapes that
depend on that row alone.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import TYPE_CHECKING, Any

import numpy
import torch

from workernode.local.server.steps.attending import Style

if TYPE_CHECKING:
    from workernode.local.server.steps.batch import Batch, Run, Stretch
    from workernode.local.server.steps.row import Move

_numbers = itertools.count()


class CachedAttention:
    """Keys and values of all layers, and the attention that reads and writes them.

    Memory is taken at a layer's first use after :meth:`hold`, on a CPU as it is written. One token more is kept:
    padding writes there. Models know it as ``name``, their ``attn_implementation``. ``eager`` is attention written
    out, as models with soft caps or sinks have it in any case; otherwise torch's own is called.
    """

    def __init__(self, *, eager: bool = False) -> None:
        from transformers import AttentionInterface

        self.tokens = 0
        """How many of them it holds."""
        self.windows: set[int] = set()
        """How many of the last tokens layers have asked to see, where that is not all."""
        self._eager = eager
        self.name = f"workernode_{next(_numbers)}"
        # No masks are registered under the name, so models make none: they are made here.
        AttentionInterface.register(self.name, self)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._batch: Batch | None = None
        self._places: torch.Tensor | None = None
        self._masks: dict[Any, torch.Tensor | None] = {}

    def hold(self, tokens: int) -> None:
        """Forget everything, and hold so many from here on."""
        self._layers.clear()
        self.tokens = tokens

    @property
    def token_bytes(self) -> int:
        """Of one token in all layers that were used: shapes are the model's own affair."""
        return sum(pool.nbytes // len(pool) for pools in self._layers.values() for pool in pools)

    def begin(self, batch: Batch, places: torch.Tensor | None) -> None:
        """The next calls are of this batch. ``places``: where its tokens go, padding included; None: nowhere."""
        self._batch, self._places = batch, places
        self._masks.clear()

    def move(self, moves: list[Move]) -> None:
        """Copy what was computed from extent to extent, in this order."""
        with torch.inference_mode():
            for move in moves:
                source, target = move.source.start, move.target.start
                for pool in (pool for layer in self._layers.values() for pool in layer):
                    pool[target : target + move.tokens] = pool[source : source + move.tokens]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """See transformers' AttentionInterface: query, key, value are (1, heads, tokens, size), the answer is
        (1, tokens, heads, size)."""
        assert self._batch is not None
        queries, fresh_keys, fresh_values = query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)
        output = queries.new_zeros(queries.shape[0], queries.shape[1], value.shape[-1])
        pools = fresh_keys, fresh_values
        if sliding_window is not None:
            self.windows.add(sliding_window)
        if self._places is not None:
            pools = self._pools(int(module.layer_idx), fresh_keys, fresh_values)
            places = self._places.to(fresh_keys.device)  # of several devices each has its layers
            pools[0].index_copy_(0, places, _finite(fresh_keys))
            pools[1].index_copy_(0, places, _finite(fresh_values))
        style = Style(scaling, softcap, s_aux, written_out=self._eager or softcap is not None or s_aux is not None)
        for run in self._batch.runs:
            output[run.first : run.first + run.count] = self._decode(run, queries, pools, style, sliding_window)
        for stretch in self._batch.stretches:
            rows = slice(stretch.first, stretch.first + stretch.count)
            output[rows] = self._prefill(stretch, queries[rows], pools, style, sliding_window)
        return output.unsqueeze(0), None

    def _pools(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pools = self._layers.get(layer)
        if pools is None:
            pools = _zeros(keys, self.tokens + 1), _zeros(values, self.tokens + 1)
            self._layers[layer] = pools
        return pools

    def _decode(
        self,
        run: Run,
        queries: torch.Tensor,
        pools: tuple[torch.Tensor, torch.Tensor],
        style: Style,
        window: int | None,
    ) -> torch.Tensor:
        rows = queries[run.first : run.first + run.count]
        keys, values = (_view(pool, run) for pool in pools)
        # Heads that share keys become several queries of one head.
        grouped = rows.reshape(run.count, keys.shape[1], -1, rows.shape[-1])
        mask = self._mask(run, window, rows.device)
        result = style.attend(grouped, keys, values, mask)
        return result.reshape(run.count, rows.shape[1], -1)

    def _prefill(
        self,
        stretch: Stretch,
        queries: torch.Tensor,
        pools: tuple[torch.Tensor, torch.Tensor],
        style: Style,
        window: int | None,
    ) -> torch.Tensor:
        place = stretch.first if stretch.place is None else stretch.place
        end = place + stretch.start + stretch.count
        keys, values = (pool[place:end].transpose(0, 1).unsqueeze(0) for pool in pools)
        mask = self._causal(stretch, window, queries.device)
        result = style.attend(queries.transpose(0, 1).unsqueeze(0), keys, values, mask)
        return result[0].transpose(0, 1)

    def _mask(self, run: Run, window: int | None, device: torch.device) -> torch.Tensor:
        found = self._masks.get((run, window, device))
        if found is None:
            lengths = torch.tensor(run.lengths, device=device).view(-1, 1, 1, 1)
            keys = torch.arange(run.keys, device=device)
            found = keys < lengths
            if window is not None:
                found &= keys >= lengths - window
            self._masks[run, window, device] = found
        return found

    def _causal(self, stretch: Stretch, window: int | None, device: torch.device) -> torch.Tensor | None:
        end = stretch.start + stretch.count
        if stretch.start == 0 and (window is None or window >= end):
            return None
        if (stretch, window, device) not in self._masks:
            queries = torch.arange(stretch.start, end, device=device).unsqueeze(1)
            keys = torch.arange(end, device=device)
            mask = keys <= queries
            self._masks[stretch, window, device] = mask if window is None else mask & (keys > queries - window)
        return self._masks[stretch, window, device]


def _finite(fresh: torch.Tensor) -> torch.Tensor:
    """For the reason of :func:`_zeros`: who comes to this place next looks at it, masked. float16 alone overflows."""
    return fresh.nan_to_num(0.0, 0.0, 0.0) if fresh.dtype == torch.float16 else fresh


def _zeros(like: torch.Tensor, tokens: int) -> torch.Tensor:
    """Zeros and not whatever lies there: a masked key counts nothing, but nothing times NaN is NaN."""
    shape = (tokens, *like.shape[1:])
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    # The kernel's own zeros, which take no memory until something is written there; torch would write them.
    return torch.from_numpy(numpy.zeros(prod(shape) * like.itemsize, numpy.uint8)).view(like.dtype).view(shape)


def _view(pool: torch.Tensor, run: Run) -> torch.Tensor:
    heads, size = pool.shape[1], pool.shape[2]
    token = heads * size
    return pool.as_strided(
        (run.count, heads, run.keys, size), (run.stride * token, size, token, 1), storage_offset=run.place * token
    )
