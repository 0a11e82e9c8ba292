"""What an engine died of, by its exit code and its last lines: one table. Pure.

The sentences are ours, or those of our own server: a line of somebody else's may repeat a prompt.
"""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from process.restarts import how

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal[
    "out_of_memory",
    "model_files",
    "architecture",
    "device",
    "port",
    "usage",
    "program",
    "processor",
    "killed",
    "stalled",
    "hung",
    "stopped",
    "crashed",
]
SENTENCE_CHARS_MAX = 500


@dataclass(frozen=True)
class Death:
    """``hopeless``: it would end the same way again, until someone acts."""

    kind: Kind
    sentence: str

    @property
    def hopeless(self) -> bool:
        """Whether another try could only help if something was changed."""
        return self.kind in ("model_files", "architecture", "device", "usage", "program", "processor")


@dataclass(frozen=True)
class _Row:
    kind: Kind
    pattern: str
    sentence: str


_MEMORY = "The model does not fit into the memory there is. Take a smaller or quantized one, or lower {knobs}."
_GPU = _MEMORY.format(knobs="CONTEXT_LENGTH or MAX_BATCH")
_HOST = _MEMORY.format(knobs="CONTEXT_LENGTH or MAX_BATCH, or give the machine more")
_FILES = "The model's files are missing, incomplete or of another format. Check MODEL_PATH."
_ACCESS = "The hub does not give this model to you. Check MODEL_PATH, accept its licence there, or set HF_TOKEN."
_ARCHITECTURE = "The engine does not know this model's architecture. Update the engine, or take another LOCAL_ENGINE."
_DEVICE = "There is no such device, or its driver is missing. Check DEVICE, GPUS and NUM_GPUS."
_USAGE = "The engine does not take one of its flags: it is of another version, or a setting of this node is wrong."
_PROGRAM = "The engine's program, or something that it needs, is not installed. Check LOCAL_ENGINE and LOCAL_PROGRAM."

TABLE = (
    _Row("out_of_memory", r"CUDA out of memory|HIP out of memory|OutOfMemoryError|CUDA error: out of memory", _GPU),
    _Row("out_of_memory", r"cudaMalloc failed|unable to allocate \S+ buffer|failed to allocate .*buffer", _GPU),
    _Row(
        "out_of_memory", r"No available memory for the cache blocks|is less than desired GPU memory utilization", _GPU
    ),
    _Row("out_of_memory", r"larger than the (maximum number of tokens|available KV cache memory)", _GPU),
    _Row("out_of_memory", r"std::bad_alloc|Cannot allocate memory|\bMemoryError\b|DefaultCPUAllocator", _HOST),
    _Row("device", r"no CUDA-capable device|invalid device ordinal|No CUDA GPUs are available", _DEVICE),
    _Row("device", r"CUDA driver version is insufficient|not compiled with CUDA|Failed to infer device type", _DEVICE),
    _Row("device", r"Found no NVIDIA driver|invalid device:", _DEVICE),
    _Row("architecture", r"unknown model architecture|does not recognize this architecture", _ARCHITECTURE),
    _Row("architecture", r"Model architectures .* (are|is) not supported", _ARCHITECTURE),
    _Row("architecture", r"unknown pre-tokenizer type|Please pass the argument `?trust_remote_code", _ARCHITECTURE),
    _Row("model_files", r"GatedRepoError|401 Client Error|403 Client Error|gated repo", _ACCESS),
    _Row("model_files", r"failed to open GGUF|gguf_init_from_file|invalid magic|is corrupted or incomplete", _FILES),
    _Row("model_files", r"RepositoryNotFound|is not a valid model identifier|not appear to have a file named", _FILES),
    _Row("model_files", r"SafetensorError|header too large|failed to load model|Model path does not exist", _FILES),
    _Row("model_files", r"No such file or directory: .*\.(json|safetensors|bin|gguf)|can't open|Can't open", _FILES),
    _Row("port", r"[Aa]ddress already in use|couldn't bind", "Another program has taken the engine's port."),
    _Row("usage", r"unrecognized arguments|invalid argument|unknown argument|error while handling argument", _USAGE),
    _Row("program", r"error while loading shared libraries|No module named|command not found|: not found", _PROGRAM),
)
"""The first row that fits any of the last lines counts."""

_CODES: dict[int, tuple[Kind, str]] = {
    3: ("out_of_memory", _GPU),
    4: ("model_files", _FILES),
    5: ("architecture", _ARCHITECTURE),
    6: ("device", _DEVICE),
    126: ("program", _PROGRAM),
    127: ("program", _PROGRAM),
    -signal.SIGILL: ("processor", "The engine is built for another processor than this one."),
    -signal.SIGKILL: (
        "killed",
        "The engine was killed, most likely by the kernel because memory ran out. Take a smaller model, or lower "
        "CONTEXT_LENGTH or MAX_BATCH.",
    ),
}
"""Our own server's, and those that mean the same whoever ends with them."""
_OURS = (3, 4, 5, 6)


_PASSING = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the machine lacks for the moment, whatever the program."""


class _LastWord(msgspec.Struct):
    error: str
    sentence: str


_last_word = msgspec.json.Decoder(_LastWord)
_KINDS: dict[str, Kind] = {
    "out_of_memory": "out_of_memory",
    "model_files": "model_files",
    "architecture": "architecture",
    "no_such_device": "device",
    "usage": "usage",
    "internal": "crashed",
}


def death_of(code: int, lines: Sequence[str], *, ours: bool) -> Death:
    """``code`` as Python tells of it, negative for a signal; ``lines`` are the last that it wrote, the latest last.

    ``ours``: it is our own server, whose exit codes and last line are to be believed.
    """
    if ours and (told := _told(lines)) is not None:
        return told
    if code in _CODES and (ours or code not in _OURS):
        return Death(*_CODES[code])
    for row in TABLE:
        if any(re.search(row.pattern, line) for line in lines):
            return Death(row.kind, row.sentence)
    if code in (0, -signal.SIGTERM, -signal.SIGINT):
        return Death("stopped", f"The engine ended {how(code)}, though the node did not ask it to.")
    return Death("crashed", f"The engine ended {how(code)}. LOCAL_LOG or DEBUG=true tells more.")


def not_started(program: str, error: OSError) -> Death:
    """The program could not even be started."""
    why = f"({error.strerror})."
    if error.errno in _PASSING:
        return Death("crashed", f"The engine could not be started {why}")
    return Death("program", f"{program} cannot be run {why} {_PROGRAM}")


def stalled(seconds: float) -> Death:
    """It was ended because its start went no further."""
    return Death(
        "stalled", f"The engine's start went no further for {seconds:g} s. LOCAL_STALL_S says how long it may."
    )


def hung(seconds: float) -> Death:
    """It was ended because it had not answered for so long."""
    return Death("hung", f"The engine did not say that it was well for {seconds:g} s.")


def unusable(sentence: str) -> Death:
    """The node was ended with it, because a setting of the node does not do. The sentence names it."""
    return Death("usage", sentence)


def neglected() -> Death:
    """It was ended because the node failed to look after it, which its log tells more of."""
    return Death("crashed", "The engine was ended, because the node could not look after it. Its log tells why.")


def _told(lines: Sequence[str]) -> Death | None:
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                word = _last_word.decode(line)
            except msgspec.DecodeError:
                return None
            return Death(_KINDS.get(word.error, "crashed"), word.sentence[:SENTENCE_CHARS_MAX])
    return None
