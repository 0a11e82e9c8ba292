"""Queries to keys and values: torch's own attention, or written out for what that does not know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, eq=False)
class Style:
    """What a layer asks of its attention: its scale, a soft cap of the scores, a sink for each head.

    ``written_out``: not torch's own, which knows neither caps nor sinks.
    """

    scaling: float | None
    softcap: float | None
    sinks: torch.Tensor | None
    written_out: bool

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """All are (rows, heads, tokens, size). A mask is True where a key counts; None: queries and keys are of the
        same tokens, and none looks ahead. Of fewer heads of keys each serves several of queries; a decoding row has its
        queries of one head of keys side by side, as if they were tokens.
        """
        if not self.written_out:
            return scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                scale=self.scaling,
                enable_gqa=keys.shape[1] != queries.shape[1],
            )
        shape = queries.shape
        if mask is None:
            mask = torch.ones(shape[2], shape[2], dtype=torch.bool, device=queries.device).tril()
        keys, values = (each.repeat_interleave(shape[1] // each.shape[1], dim=1) for each in (keys, values))
        scores = queries @ keys.transpose(-1, -2) * (shape[-1] ** -0.5 if self.scaling is None else self.scaling)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        scores = scores.float().masked_fill(~mask, -torch.inf)
        if self.sinks is not None:
            # One for each head of queries: over heads of keys and their queries where those lie side by side.
            sinks = self.sinks.float().view(shape[1], -1, 1).expand(shape[0], shape[1], shape[2], 1)
            scores = torch.cat([scores, sinks], dim=-1)
        chances = torch.softmax(scores, dim=-1)[..., : keys.shape[2]]
        return chances.to(values.dtype) @ values
