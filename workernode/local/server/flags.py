"""What the server is told when it is started: flags, each of which may also be an environment variable."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workernode.local.server.ending import CannotServe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Flags:
    """docs/local-server.md says what each means."""

    model: str
    revision: str
    served_name: str
    host: str
    port: int
    socket: str
    exit_with_stdin: bool
    drain_s: float
    trust_remote_code: bool
    chat_template: str
    device: str
    dtype: str
    attention: str
    max_batch: int
    max_context: int
    kv_tokens: int
    prefill_tokens: int
    waiting_max: int
    stuck_s: float
    seed: int | None
    lora: str
    embedding_input: str
    threads: int
    stream_interval: int
    num_gpus: int
    max_gpu_memory_gib: float
    cpu_offload_gib: float
    quantization: str
    compile: bool
    generation_config: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise CannotServe("usage", f"The flags are wrong: {message}.")


QUANTIZATIONS = ("", "8bit", "4bit", "awq", "gptq")


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Flags:
    """Raises :class:`CannotServe` of the kind ``usage`` with a sentence for what is wrong."""
    parser = _parser(environ)
    flags = vars(parser.parse_args(arguments))
    if not flags["model"]:
        raise CannotServe("usage", "Say which model: --model, MODEL_PATH or MODEL_NAME.")
    return Flags(**flags)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m workernode.local.server", allow_abbrev=False)

    def flag(name: str, default: str, kind: Callable[[str], Any] = str, choices: Sequence[str] | None = None) -> None:
        value = environ.get(name.upper().replace("-", "_"), "") or default
        if choices is not None and value not in choices:  # argparse looks at what is given as a flag only
            raise CannotServe("usage", f"{name.upper()}={value} is none of {', '.join(filter(None, choices))}.")
        parser.add_argument(f"--{name}", type=kind, default=value, choices=choices)

    def switch(name: str) -> None:
        on = environ.get(name.upper().replace("-", "_"), "").lower() in ("1", "true", "yes")
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=on)

    parser.add_argument("--model", default=environ.get("MODEL_PATH") or environ.get("MODEL_NAME") or "")
    for name, default in {"host": "127.0.0.1", "socket": ""}.items():
        parser.add_argument(f"--{name}", default=default)  # HOST means something else in many shells
    parser.add_argument("--port", type=_port, default=0)
    flag("revision", "main")
    flag("served-name", "")
    flag("chat-template", "")
    flag("device", "auto")
    flag("dtype", "auto", choices=("auto", "float32", "bfloat16", "float16"))
    flag("attention", "sdpa", choices=("sdpa", "eager"))
    flag("max-batch", "32", _positive)
    flag("max-context", "0", _count)
    flag("kv-tokens", "0", _count)
    flag("prefill-tokens", "512", _positive)
    flag("waiting-max", "1024", _count)
    flag("stuck-s", "300", _amount)
    flag("lora", "")
    flag("embedding-input", "cut", choices=("cut", "chunk", "refuse"))
    flag("threads", "0", _count)
    flag("drain-s", "0", _amount)
    parser.add_argument("--seed", type=_seed, default=environ.get("SEED") or None)
    switch("trust-remote-code")
    switch("exit-with-stdin")
    flag("stream-interval", "1", _positive)
    flag("num-gpus", "0", _count)
    flag("max-gpu-memory-gib", "0", _amount)
    flag("cpu-offload-gib", "0", _amount)
    flag("quantization", "", choices=QUANTIZATIONS)
    switch("compile")
    flag("generation-config", "model", choices=("model", "none"))
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _port(text: str) -> int:
    number = _count(text)
    if number > 65_535:
        raise ValueError
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError  # more than a request may say
    return number


def _amount(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
