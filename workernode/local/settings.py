"""The settings of a local model: what FastChat's workers have as flags, and which program serves it."""

from __future__ import annotations

import os
import re
import shlex
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from process.settings import SECONDS_MAX, Settings

EngineName = Literal["transformers", "llamafile", "llama-server", "vllm", "command"]

_SECRET = re.compile(r"(KEYS?|TOKEN|PASSWORD|SECRET|DATABASE_URL|STORAGE_URL|PULSAR_URL)(_FILE)?$")
_FOR_MODELS = re.compile(r"^(HF_|HUGGING_FACE_)")
"""A hub's token is for whoever downloads the model."""
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu|npu)(:\d+)?")
_GPUS = re.compile(r"\d+(,\d+)*")


def _gpus(text: str) -> str:
    text = text.replace(" ", "")
    if text and not _GPUS.fullmatch(text):
        raise ValueError("it is no list of numbers such as 0,1")
    return text


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError("it is none of auto, cpu, cuda, cuda:N, mps, xpu and npu")
    return text


def _command(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError:
        raise ValueError("it has a quotation mark without its other half") from None
    return text


def _with_port(text: str) -> str:
    if text and "{port}" not in text:
        raise ValueError("it does not say {port}: nobody would find what it starts")
    return text


class LocalSettings(Settings):
    """One group for all engines: each takes what it can, and the node says which of them it cannot."""

    local_engine: EngineName = Field(
        "transformers",
        description="what serves the model: transformers (ours), llamafile, llama-server, vllm or command",
    )
    model_path: str = Field("", description="the model: a directory, a .gguf or .llamafile, or a name on the hub")
    local_command: Annotated[str, AfterValidator(_command), AfterValidator(_with_port)] = Field(
        "",
        description="for LOCAL_ENGINE=command: a command line that serves the OpenAI API on 127.0.0.1; {port}, "
        "{model}, {slots} and {context} are filled in",
    )
    local_arguments: Annotated[str, AfterValidator(_command)] = Field(
        "", description="more arguments for the engine, as on a command line"
    )
    local_program: str = Field("", description="the path of llama-server, vllm or Python, if it is not on PATH")
    local_log: str = Field("", description="a file for all that the engine itself writes; it may hold prompts")
    local_stall_s: float = Field(
        900.0, gt=0, le=SECONDS_MAX, description="seconds without progress after which a start is given up"
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps, xpu or npu"
    )
    gpus: Annotated[str, AfterValidator(_gpus)] = Field("", description="the GPUs that the engine may see, by commas")
    num_gpus: int | None = Field(None, ge=1, description="over how many GPUs the model is divided")
    max_gpu_memory_gib: float | None = Field(
        None, gt=0, description="GiB of weights on each GPU; the KV cache takes of the rest"
    )
    cpu_offload_gib: float | None = Field(None, gt=0, description="GiB of the weights that stay in the host's memory")
    gpu_layers: int | None = Field(None, ge=0, description="how many layers are on the GPU, for llama.cpp")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto, float32, bfloat16 or float16"
    )
    quantization: Literal["", "8bit", "4bit", "awq", "gptq"] = Field("", description="8bit, 4bit, awq or gptq")
    lora: str = Field("", description="a LoRA adapter's directory or file")
    attention: Literal["", "sdpa", "eager", "flash"] = Field(
        "", description="the attention implementation: sdpa, eager or flash"
    )
    compile: bool | None = Field(None, description="true or false to compile the model, or not to")
    stream_interval: int | None = Field(None, ge=1, description="tokens between two parts of a stream")
    embedding_input: Literal["", "cut", "chunk", "refuse"] = Field(
        "", description="inputs of embeddings that are too long: cut, chunk (the mean over parts) or refuse"
    )
    max_batch: int | None = Field(None, ge=1, le=4096, description="requests that the engine works on in one step")
    seed: int | None = Field(None, ge=0, description="the seed of requests without one")
    revision: str = Field("", description="of a model on the hub: a branch, tag or commit")
    trust_remote_code: bool = Field(False, description="true to run code that comes with the model")
    chat_template: str = Field("", description="a Jinja template of chats, or the path of a file with one")
    first_token_target_s: float = Field(
        10.0,
        gt=0,
        le=SECONDS_MAX,
        description="seconds to the first token above which a local node takes fewer requests",
    )
    host_memory_max_gib: float | None = Field(
        None, gt=0, description="GiB that a local node may use with its engine; the machine's or container's if unset"
    )

    @model_validator(mode="after")
    def _has_its_gpus(self) -> LocalSettings:
        named = len(self.gpus.split(",")) if self.gpus else None
        if named is not None and (self.num_gpus or 1) > named:
            raise ValueError(f"NUM_GPUS={self.num_gpus}, but GPUS names {named}")
        return self


ENGINE_SETTINGS = (
    *("device", "gpus", "num_gpus", "max_gpu_memory_gib", "cpu_offload_gib", "gpu_layers", "dtype", "quantization"),
    *("lora", "attention", "compile", "stream_interval", "embedding_input", "max_batch", "seed", "revision"),
    *("trust_remote_code", "chat_template"),
)
"""Those that an engine is asked to honour."""


def child_environment(own: frozenset[str]) -> dict[str, str]:
    """The environment of an engine: this process's without what is meant for the node, and without secrets.

    ``own`` are names of the node's settings, in capitals: an engine may read variables of the same names.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in own and (_FOR_MODELS.match(name) or not _SECRET.search(name))
    }
