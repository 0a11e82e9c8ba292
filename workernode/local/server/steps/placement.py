"""Where a model's weights lie, and in which form: what ``from_pretrained`` is told of it.

What needs a library beyond the extra ``local`` says in one sentence which extra has it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from workernode.local.server.ending import CannotServe

if TYPE_CHECKING:
    from workernode.local.server.flags import Flags

GIB = 2**30
_WEIGHTS_SHARE = 0.7
"""Of a GPU's free memory, unless MAX_GPU_MEMORY_GIB says how much: the rest is for the KV cache and the steps."""


def device_of(flags: Flags) -> torch.device:
    """The device to use, the first of several. Raises :class:`CannotServe` of the kind ``no_such_device``."""
    name = flags.device
    if name == "auto":
        name = next((name for name in ("cuda", "xpu", "npu", "mps") if count_of(name)), "cpu")
    try:
        device = torch.device(name)
        there = device.type == "cpu" or (device.index or 0) < count_of(device.type)
    except RuntimeError:
        there = False
    if not there:
        raise CannotServe("no_such_device", f"There is no device {name} here for torch {torch.__version__}.")
    return device


def count_of(kind: str) -> int:
    """How many devices of a kind there are."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    if kind == "npu" and find_spec("torch_npu") is not None:
        __import__("torch_npu")  # adds torch.npu
    module: Any = getattr(torch, kind, None)
    return int(module.device_count()) if hasattr(module, "device_count") and module.is_available() else 0


def arguments_of(flags: Flags, config: Any, device: torch.device) -> dict[str, Any]:
    """What ``from_pretrained`` is told beside the model and its dtype. Raises :class:`CannotServe`."""
    quantization = _quantization_of(flags, config, device)
    found: dict[str, Any] = {} if quantization is None else {"quantization_config": quantization}
    if flags.num_gpus > 1 or flags.cpu_offload_gib or flags.max_gpu_memory_gib:
        _require("accelerate", "offload", "A model over several devices")
        found |= {"device_map": "auto", "max_memory": _memory_of(flags, device)}
    elif flags.quantization:
        found["device_map"] = {"": device}  # quantized weights are made where they stay
    return found


def max_memory(flags: Flags, free: dict[int, int]) -> dict[int | str, int]:
    """Bytes of weights on each GPU, whose free bytes are given by their numbers, and on the host. A layer that fits on
    no GPU stays there and is brought over for each step."""
    most = int(flags.max_gpu_memory_gib * GIB)
    found: dict[int | str, int] = {
        number: min(most, each) if most else int(each * _WEIGHTS_SHARE) for number, each in free.items()
    }
    if flags.cpu_offload_gib:
        found["cpu"] = int(flags.cpu_offload_gib * GIB)
    return found


def require_no_disk(model: Any) -> None:
    """Raises :class:`CannotServe` if weights would have to stay on the disk."""
    if "disk" in (getattr(model, "hf_device_map", None) or {}).values():
        raise CannotServe(
            "out_of_memory",
            "The model does not fit: raise NUM_GPUS, MAX_GPU_MEMORY_GIB or CPU_OFFLOAD_GIB.",
        )


def _memory_of(flags: Flags, device: torch.device) -> dict[int | str, int]:
    if device.type not in ("cuda", "xpu"):
        raise CannotServe("usage", "NUM_GPUS, MAX_GPU_MEMORY_GIB and CPU_OFFLOAD_GIB are for GPUs, and there is none.")
    there, wanted, first = count_of(device.type), max(1, flags.num_gpus), device.index or 0
    if first + wanted > there:
        since = f" from {device} on" if first else ""
        raise CannotServe("no_such_device", f"NUM_GPUS={wanted}{since}, but this process sees {there}.")
    numbers = range(first, first + wanted)
    return max_memory(flags, {number: getattr(torch, device.type).mem_get_info(number)[0] for number in numbers})


def _quantization_of(flags: Flags, config: Any, device: torch.device) -> Any:
    own = (getattr(config, "quantization_config", None) or {}).get("quant_method", "")
    asked = flags.quantization
    if own in ("awq", "gptq"):
        if asked not in ("", own):
            raise CannotServe("usage", f"QUANTIZATION={asked}, but the model's weights are quantized as {own}.")
        _require("gptqmodel", "gptq", f"A model quantized as {own}")
        return None
    if not asked:
        return None
    if asked in ("awq", "gptq"):
        raise CannotServe("usage", f"QUANTIZATION={asked}, but the model's weights are not: take one that is.")
    # Made for CUDA the one, for whatever torch runs on the other.
    if device.type == "cuda":
        return _by_bitsandbytes(asked, flags)
    return _by_torchao(asked)


def _by_bitsandbytes(asked: str, flags: Flags) -> Any:
    from transformers import BitsAndBytesConfig

    _require("bitsandbytes", "quantized", f"QUANTIZATION={asked}")
    if asked == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    computed = torch.bfloat16 if flags.dtype == "auto" else getattr(torch, flags.dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)


def _by_torchao(asked: str) -> Any:
    from transformers import TorchAoConfig

    _require("torchao", "quantized", f"QUANTIZATION={asked}")
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if asked == "8bit":
        return TorchAoConfig(Int8WeightOnlyConfig())
    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)))


def _require(module: str, extra: str, what: str) -> None:
    if find_spec(module) is None:
        raise CannotServe("usage", f"{what} needs {module}: run pip install '.[{extra}]' in the checkout.")
