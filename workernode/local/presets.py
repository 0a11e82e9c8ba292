"""How each engine is started, what it can honour, and how it tells of itself. No process is started here.

The flags are those of llama.cpp's server (``tools/server/README.md``), of ``vllm serve`` and of our own server
(docs/local-server.md). A key, where one is taken, goes by the environment: every user may read a list of processes.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from workernode.local.figures import LLAMA_CPP, NONE, TRANSFORMERS, VLLM, FigureNames
from workernode.local.settings import ENGINE_SETTINGS, LocalSettings
from workernode.local.tokenize import CONTENT, PROMPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.local.settings import EngineName
    from workernode.local.tokenize import TokenizeForm

HOST = "127.0.0.1"
_LORA_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM takes, from its default on."""


@dataclass(frozen=True)
class Place:
    """What differs from one start to the next, and what the node decides."""

    port: int
    slots: int
    model_name: str
    context_length: int | None = None
    embeds: bool = False
    """Whether embeddings are all that it shall make."""


@dataclass(frozen=True)
class Preset:
    """One engine."""

    argv: Callable[[LocalSettings, Place], list[str]]
    honours: frozenset[str]
    """Of :data:`workernode.local.settings.ENGINE_SETTINGS`."""
    slots: int
    """What it works on at once unless MAX_BATCH says otherwise."""
    dialect: str = ""
    """Of :data:`workernode.remote.dialects.dialect.DIALECTS`; empty if it is OpenAI's."""
    figures: FigureNames = NONE
    health: tuple[str, ...] = ("/health",)
    """Asked in this order until one is known there."""
    key_variable: str | None = None
    embeds_apart: bool = False
    """Whether it makes embeddings only when that is all it shall do."""
    continues: bool = False
    """Whether it goes on after the last message if that is an assistant's and ``continue_final_message`` is set."""
    tokenize: TokenizeForm | None = None
    """How it is asked for the tokens of a text."""
    environment: dict[str, str] = field(default_factory=dict)
    remedies: dict[str, str] = field(default_factory=dict)
    """What to do instead, for settings that it cannot honour."""


def slots_of(settings: LocalSettings, preset: Preset) -> int:
    """How many requests the engine can work on at once."""
    return settings.max_batch or preset.slots


def visible_gpus(settings: LocalSettings) -> dict[str, str]:
    """The variable by which CUDA shows a program some of the GPUs only."""
    if settings.device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    if settings.gpus:
        return {"CUDA_VISIBLE_DEVICES": settings.gpus}
    if settings.num_gpus:
        # Of those that this process may see, where somebody has chosen.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        all_of_them = [str(number) for number in range(settings.num_gpus)] if seen is None else seen.split(",")
        return {"CUDA_VISIBLE_DEVICES": ",".join(each.strip() for each in all_of_them[: settings.num_gpus])}
    return {}


def gpus_of(settings: LocalSettings) -> list[int] | None:
    """The numbers of the GPUs that the engine works on; None if it may be any."""
    kind, _, number = settings.device.partition(":")
    shown = visible_gpus(settings).get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    if kind not in ("auto", "cuda"):
        return []
    named = None if shown is None else [each.strip() for each in shown.split(",") if each.strip()]
    if named is not None and not all(each.isdigit() for each in named):
        return None  # by their UUIDs
    known = None if named is None else [int(each) for each in named]
    if not number:
        return known
    place = int(number)
    return [place] if known is None else known[place : place + 1]


def unheeded(settings: LocalSettings) -> list[str]:
    """A sentence for each setting that was made and that the engine cannot honour."""
    preset = PRESETS[settings.local_engine]
    fields, engine = LocalSettings.model_fields, settings.local_engine
    return [
        f"{name.upper()} is set, but LOCAL_ENGINE={engine} cannot honour it{preset.remedies.get(name, '')}."
        for name in ENGINE_SETTINGS
        if name not in preset.honours and getattr(settings, name) != fields[name].default
    ]


def _flags(*pairs: tuple[str, object]) -> list[str]:
    """``--name value`` for what has a value, ``--name`` for what is True."""
    found: list[str] = []
    for name, value in pairs:
        if value is True:
            found.append(name)
        elif value is not None and value is not False and value != "":
            found += (name, str(value))
    return found


def _set(value: str, default: str = "auto") -> str:
    return "" if value == default else value


def _transformers(settings: LocalSettings, place: Place) -> list[str]:
    program = settings.local_program or sys.executable
    attention = {"flash": "sdpa"}.get(settings.attention, settings.attention)  # torch's sdpa uses flash by itself
    return [
        *(program, "-m", "workernode.local.server", "--model", settings.model_path),
        *("--host", HOST, "--port", str(place.port), "--exit-with-stdin"),
        *_flags(
            ("--served-name", place.model_name),
            ("--device", _set(settings.device)),
            ("--dtype", _set(settings.dtype)),
            ("--attention", attention),
            ("--max-batch", place.slots),
            ("--max-context", place.context_length),
            ("--seed", settings.seed),
            ("--lora", settings.lora),
            ("--quantization", settings.quantization),
            ("--num-gpus", settings.num_gpus),
            ("--max-gpu-memory-gib", settings.max_gpu_memory_gib),
            ("--cpu-offload-gib", settings.cpu_offload_gib),
            ("--compile", settings.compile is True),
            ("--stream-interval", settings.stream_interval),
            ("--embedding-input", settings.embedding_input),
            ("--revision", settings.revision),
            ("--trust-remote-code", settings.trust_remote_code),
            ("--chat-template", settings.chat_template),
        ),
    ]


def _llama_cpp(settings: LocalSettings, place: Place) -> list[str]:
    # Its context is that of all slots together.
    context = place.context_length * place.slots if place.context_length else None
    layers = 0 if settings.device == "cpu" else settings.gpu_layers
    attention = {"flash": "on", "eager": "off"}.get(settings.attention)
    return [
        *("--host", HOST, "--port", str(place.port), "--parallel", str(place.slots), "--metrics"),
        *_flags(
            ("--ctx-size", context),
            ("--n-gpu-layers", None if layers is None else str(layers)),
            ("--flash-attn", attention),
            ("--lora", settings.lora),
            ("--seed", None if settings.seed is None else str(settings.seed)),
            (
                "--chat-template-file" if _is_path(settings.chat_template) else "--chat-template",
                settings.chat_template,
            ),
            ("--embeddings", place.embeds),
        ),
    ]


def _is_path(template: str) -> bool:
    """Whether it is the path of a template and not one itself."""
    try:
        return template.endswith(".jinja") or Path(template).is_file()
    except (OSError, ValueError):
        return False  # too long for a path


def _llama_server(settings: LocalSettings, place: Place) -> list[str]:
    return [settings.local_program or "llama-server", "--model", settings.model_path, *_llama_cpp(settings, place)]


def _llamafile(settings: LocalSettings, place: Place) -> list[str]:
    # By sh: what the kernel does not know as a program is one to the shell, on every Unix.
    return ["sh", settings.model_path, "--server", "--nobrowser", *_llama_cpp(settings, place)]


def _vllm(settings: LocalSettings, place: Place) -> list[str]:
    quantization = {"4bit": "bitsandbytes", "8bit": "fp8"}.get(settings.quantization, settings.quantization)
    name = "base" if settings.lora else place.model_name
    return [
        *(settings.local_program or "vllm", "serve", settings.model_path),
        *("--host", HOST, "--port", str(place.port), "--served-model-name", name, "--max-num-seqs", str(place.slots)),
        *_flags(
            ("--dtype", _set(settings.dtype)),
            ("--tensor-parallel-size", settings.num_gpus),
            ("--cpu-offload-gb", settings.cpu_offload_gib),
            ("--quantization", quantization),
            ("--enable-lora", bool(settings.lora)),
            ("--max-lora-rank", _lora_rank(settings.lora)),
            ("--lora-modules", f"{place.model_name}={settings.lora}" if settings.lora else ""),
            ("--enforce-eager", settings.compile is False),
            ("--stream-interval", settings.stream_interval),
            ("--max-model-len", place.context_length),
            ("--seed", None if settings.seed is None else str(settings.seed)),
            ("--revision", settings.revision),
            ("--trust-remote-code", settings.trust_remote_code),
            ("--chat-template", settings.chat_template),
        ),
    ]


def _lora_rank(folder: str) -> int | None:
    """The least that vLLM takes for an adapter; None where the adapter does not tell, and vLLM's own 16 has to do."""
    try:
        rank = msgspec.json.decode((Path(folder) / "adapter_config.json").read_bytes())["r"]
    except (OSError, msgspec.DecodeError, TypeError, KeyError):
        return None
    return next((known for known in _LORA_RANKS if isinstance(rank, int) and rank <= known), None)


def _command(settings: LocalSettings, place: Place) -> list[str]:
    values = {
        "{port}": str(place.port),
        "{model}": settings.model_path,
        "{slots}": str(place.slots),
        "{context}": str(place.context_length or ""),
    }
    words = shlex.split(settings.local_command)
    for name, value in values.items():
        # Not str.format: a command line may hold JSON.
        words = [word.replace(name, value) for word in words]
    return words


_LLAMA_CPP = frozenset(
    ("device", "gpus", "num_gpus", "gpu_layers", "lora", "attention", "max_batch", "seed", "chat_template")
)
_GGUF = {
    "dtype": ": the model's file decides",
    "quantization": ": the model's file decides",
    "cpu_offload_gib": ": GPU_LAYERS says how many layers are on the GPU",
}
_OWN_FLAGS = dict.fromkeys(ENGINE_SETTINGS, ": write it into LOCAL_COMMAND")

PRESETS: dict[EngineName, Preset] = {
    "transformers": Preset(
        _transformers,
        honours=frozenset(ENGINE_SETTINGS) - {"gpu_layers"},
        slots=32,
        figures=TRANSFORMERS,
        continues=True,
        tokenize=PROMPT,
    ),
    "llama-server": Preset(
        _llama_server,
        honours=_LLAMA_CPP,
        slots=4,
        dialect="llama.cpp",
        figures=LLAMA_CPP,
        embeds_apart=True,
        key_variable="LLAMA_API_KEY",
        tokenize=CONTENT,
        remedies=_GGUF,
    ),
    "llamafile": Preset(
        _llamafile,
        honours=_LLAMA_CPP,
        slots=4,
        dialect="llama.cpp",
        figures=LLAMA_CPP,
        embeds_apart=True,
        key_variable="LLAMA_API_KEY",
        tokenize=CONTENT,
        remedies=_GGUF,
    ),
    "vllm": Preset(
        _vllm,
        honours=frozenset(ENGINE_SETTINGS)
        - {"device", "max_gpu_memory_gib", "gpu_layers", "attention", "embedding_input"},
        slots=256,
        dialect="vllm",
        figures=VLLM,
        key_variable="VLLM_API_KEY",
        continues=True,
        tokenize=PROMPT,
        environment={"VLLM_NO_USAGE_STATS": "1"},
    ),
    "command": Preset(
        _command,
        honours=frozenset(("gpus", "num_gpus", "max_batch")),
        slots=4,
        health=("/health", "/v1/models"),
        remedies=_OWN_FLAGS,
    ),
}
