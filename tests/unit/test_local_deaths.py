"""What an engine died of: a test for each row of the table, in the words of the engines themselves."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from workernode.local import deaths
from workernode.local.deaths import TABLE, death_of
from workernode.local.restarts import GIVEN_UP_S, PAUSE_S_MIN, TRIES_MAX, Restarts

LINES = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "out_of_memory",
    "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory": "out_of_memory",
    "llama_model_load: error loading model: unable to allocate CUDA0 buffer": "out_of_memory",
    "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 437944320": "out_of_memory",
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`": "out_of_memory",
    "Free memory on device (3.1/23.6 GiB) on startup is less than desired GPU memory utilization": "out_of_memory",
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens": "out_of_memory",
    "terminate called after throwing an instance of 'std::bad_alloc'": "out_of_memory",
    "RuntimeError: CUDA error: no CUDA-capable device is detected": "device",
    "AssertionError: Torch not compiled with CUDA enabled": "device",
    "RuntimeError: Found no NVIDIA driver on your system.": "device",
    "llama_model_load: error loading model: unknown model architecture: 'gemma9'": "architecture",
    "ValueError: Model architectures ['FooForCausalLM'] are not supported for now.": "architecture",
    "llama_model_load: error loading model: unknown pre-tokenizer type: 'foo'": "architecture",
    "huggingface_hub.errors.GatedRepoError: 403 Client Error.": "model_files",
    "gguf_init_from_file: invalid magic characters 'vers'": "model_files",
    "OSError: foo/bar is not a local folder and is not a valid model identifier": "model_files",
    "safetensors_rust.SafetensorError: Error while deserializing header: header too large": "model_files",
    "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'": "model_files",
    "ERROR: [Errno 98] error while attempting to bind on address: Address already in use": "port",
    "vllm: error: unrecognized arguments: --frob": "usage",
    "error: invalid argument: --frob": "usage",
    "llama-server: error while loading shared libraries: libcuda.so.1": "program",
    "/usr/bin/python: No module named vllm": "program",
}


@pytest.mark.parametrize(("line", "kind"), LINES.items())
def test_an_engine_that_says_what_is_wrong_is_understood(line: str, kind: str) -> None:
    death = death_of(1, ["Loading…", line, "Traceback (most recent call last):"], ours=False)
    assert death.kind == kind
    assert line not in death.sentence, "whose words may repeat a prompt"


def test_every_row_has_such_a_line() -> None:
    import re

    assert [row for row in TABLE if not any(re.search(row.pattern, line) for line in LINES)] == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3, "out_of_memory"),
        (4, "model_files"),
        (5, "architecture"),
        (6, "device"),
        (127, "program"),
        (-signal.SIGKILL, "killed"),
        (-signal.SIGILL, "processor"),
        (-signal.SIGSEGV, "crashed"),
        (0, "stopped"),
        (1, "crashed"),
    ],
)
def test_exit_codes_of_our_server_tell_without_a_word(code: int, kind: str) -> None:
    assert death_of(code, [], ours=True).kind == kind


def test_codes_of_our_server_mean_nothing_of_another_one() -> None:
    assert death_of(3, [], ours=False).kind == "crashed"


def test_the_last_word_of_our_server_is_told_as_it_is_and_another_ones_is_not() -> None:
    word = '{"error":"model_files","sentence":"config.json is missing in /m."}'
    assert death_of(4, ["loading", word], ours=True) == deaths.Death("model_files", "config.json is missing in /m.")
    assert death_of(1, [word], ours=False).kind == "crashed"
    assert death_of(4, ['{"what": 1}'], ours=True).kind == "model_files"
    assert len(death_of(1, [f'{{"error":"internal","sentence":"{"x" * 9999}"}}'], ours=True).sentence) == 500


def test_an_engine_that_dies_again_and_again_waits_longer_and_is_given_up_in_the_end() -> None:
    restarts = Restarts()
    crash = death_of(-signal.SIGSEGV, [], ours=False)
    pauses = [restarts.ended(crash, None).pause_s for _ in range(TRIES_MAX - 1)]
    assert pauses == [PAUSE_S_MIN * 2**number for number in range(TRIES_MAX - 1)]
    assert restarts.ended(crash, 1.0).given_up
    assert restarts.ended(crash, None).pause_s == GIVEN_UP_S
    assert restarts.ended(crash, 3600.0).pause_s == 0, "it was well in between"
    assert not restarts.ended(crash, 1.0).given_up


def test_what_would_end_the_same_way_is_tried_twice() -> None:
    restarts = Restarts()
    missing = death_of(4, [], ours=True)
    assert not restarts.ended(missing, None).given_up
    assert restarts.ended(missing, None).given_up


@pytest.mark.parametrize(
    ("number", "hopeless"), [(errno.ENOENT, True), (errno.EACCES, True), (errno.EAGAIN, False), (errno.ENOMEM, False)]
)
def test_what_the_machine_lacks_for_a_moment_is_no_fault_of_the_program(number: int, hopeless: bool) -> None:
    death = deaths.not_started("vllm", OSError(number, os.strerror(number)))
    assert death.hopeless == hopeless
    assert os.strerror(number) in death.sentence
    assert ("LOCAL_PROGRAM" in death.sentence) == hopeless
