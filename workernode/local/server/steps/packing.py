"""Linear layers whose weights lie as the processor's kernels read them.

A plain weight is laid out anew at every call, which for the few rows of a step takes longer than the product itself.
Packed ones are laid out once: measured on two cores, steps of up to 32 rows take half the time. The operators are those
that torch's own compiler emits for a processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_ROWS = 32
"""The layout is chosen for so many rows of a step; fewer and more work too."""

SMALLEST = 2**17
"""Numbers in a weight. Below that the operator's call, some 12 µs more than a plain one, costs what it saves."""


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """What a linear layer computes, from a packed weight. ``weight`` can be asked for its size and type only."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(…, in_features) to (…, out_features)."""
        return cast("torch.Tensor", torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], ""))

    def plain(self) -> torch.nn.Linear:
        """The layer as it was."""
        layer = torch.nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.weight = torch.nn.Parameter(self.weight.to_dense(), requires_grad=False)
        if self.bias is not None:
            layer.bias = torch.nn.Parameter(self.bias, requires_grad=False)
        return layer.eval()


def pack(model: Any) -> bool:
    """Replace the linear layers of a model on the processor, one by one. Whether there was one."""
    if not torch.backends.mkldnn.is_available():
        return False
    return _replace(model, lambda layer: PackedLinear(layer) if _fits(layer) else None)


def unpack(model: Any) -> None:
    """Put the plain layers back."""
    _replace(model, lambda layer: layer.plain() if isinstance(layer, PackedLinear) else None)


def _fits(layer: torch.nn.Module) -> bool:
    # No layer and no weight derived from these: those quantize, or compute something else.
    if type(layer) is not torch.nn.Linear or type(layer.weight.data) is not torch.Tensor:
        return False
    if layer.weight.device.type != "cpu" or layer.weight.numel() < SMALLEST:
        return False
    dtype = layer.weight.dtype
    return bool(dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def _replace(model: torch.nn.Module, replacement: Callable[[torch.nn.Module], torch.nn.Module | None]) -> bool:
    places = [(parent, name) for parent in model.modules() for name, _ in parent.named_children()]
    replaced = False
    with torch.inference_mode():
        for parent, name in places:
            new = replacement(getattr(parent, name))
            if new is not None:
                setattr(parent, name, new)
                replaced = True
    return replaced
