"""Engines and their presets: what they are started with, what they cannot honour, and how they are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from process.settings import WrongSettings, load
from wire.errors import InvalidRequest
from wire.request import Request
from workernode.local.continuing import continued
from workernode.local.engine import LocalEngine
from workernode.local.figures import LLAMA_CPP, TRANSFORMERS, VLLM, FigureNames, Figures, figures_of
from workernode.local.health import READY, Health, health_of
from workernode.local.presets import PRESETS, Place, gpus_of, unheeded, visible_gpus
from workernode.local.resources import Resources
from workernode.local.server.flags import read
from workernode.local.settings import EngineName, LocalSettings, child_environment
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from pathlib import Path


def settings(engine: str, **env: str) -> LocalSettings:
    return load(LocalSettings, {"LOCAL_ENGINE": engine, "MODEL_PATH": "/m/model.gguf", **env})


def command(engine: EngineName, *, context: int | None = None, **env: str) -> str:
    made = settings(engine, **env)
    return " ".join(PRESETS[engine].argv(made, Place(8000, 4, "name", context)))


def test_our_server_is_started_with_what_its_contract_says() -> None:
    line = command("transformers", context=2048, LOCAL_PROGRAM="py", SEED="0", DEVICE="cuda:1", ATTENTION="eager")
    assert line == (
        "py -m workernode.local.server --model /m/model.gguf --host 127.0.0.1 --port 8000 --exit-with-stdin "
        "--served-name name --device cuda:1 --attention eager --max-batch 4 --max-context 2048 --seed 0"
    )
    line = command("transformers", QUANTIZATION="4bit", NUM_GPUS="2", MAX_GPU_MEMORY_GIB="20", CPU_OFFLOAD_GIB="4.5")
    assert "--quantization 4bit --num-gpus 2 --max-gpu-memory-gib 20.0 --cpu-offload-gib 4.5" in line
    line = command("transformers", COMPILE="true", STREAM_INTERVAL="2", EMBEDDING_INPUT="chunk")
    assert "--compile --stream-interval 2 --embedding-input chunk" in line


def test_our_server_knows_every_flag_that_it_is_started_with() -> None:
    every = {
        "DEVICE": "xpu", "NUM_GPUS": "2", "MAX_GPU_MEMORY_GIB": "20", "CPU_OFFLOAD_GIB": "4", "DTYPE": "bfloat16",
        "QUANTIZATION": "awq", "LORA": "/l", "ATTENTION": "flash", "COMPILE": "true", "STREAM_INTERVAL": "2",
        "EMBEDDING_INPUT": "cut", "SEED": "1", "REVISION": "r", "TRUST_REMOTE_CODE": "true", "CHAT_TEMPLATE": "{{ t }}",
    }  # fmt: skip
    made = PRESETS["transformers"].argv(settings("transformers", **every), Place(8000, 4, "name", 512))
    told = read(made[3:], {})
    assert (told.device, told.num_gpus, told.cpu_offload_gib, told.compile) == ("xpu", 2, 4.0, True)
    assert (told.attention, told.stream_interval, told.seed, told.exit_with_stdin) == ("sdpa", 2, 1, True)


def test_more_gpus_than_are_named_is_a_mistake() -> None:
    with pytest.raises(WrongSettings, match="NUM_GPUS=3, but GPUS names 2"):
        settings("vllm", GPUS="0,1", NUM_GPUS="3")


def test_llama_cpp_is_given_the_context_of_all_its_slots_together() -> None:
    assert command("llama-server", context=1000, GPU_LAYERS="0") == (
        "llama-server --model /m/model.gguf --host 127.0.0.1 --port 8000 --parallel 4 --metrics --ctx-size 4000 "
        "--n-gpu-layers 0"
    )
    assert "--n-gpu-layers 0" in command("llama-server", DEVICE="cpu", GPU_LAYERS="9")


def test_a_llamafile_is_run_by_the_shell_for_kernels_do_not_know_it() -> None:
    assert command("llamafile").startswith("sh /m/model.gguf --server --nobrowser --host 127.0.0.1 --port 8000 ")


def test_vllm_serves_an_adapter_under_the_models_name() -> None:
    line = command("vllm", LORA="/l", QUANTIZATION="4bit", NUM_GPUS="2", COMPILE="false", STREAM_INTERVAL="3")
    assert "--served-model-name base" in line
    assert "--enable-lora --lora-modules name=/l" in line
    assert "--quantization bitsandbytes" in line
    assert "--tensor-parallel-size 2" in line
    assert "--enforce-eager --stream-interval 3" in line


@pytest.mark.parametrize(("rank", "told"), [(8, "16"), (16, "16"), (24, "32"), (64, "64"), (1024, None), ("x", None)])
def test_vllm_is_told_of_an_adapter_of_higher_rank(tmp_path: Path, rank: object, told: str | None) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    line = command("vllm", LORA=str(tmp_path)).split()
    assert (line[line.index("--max-lora-rank") + 1] if "--max-lora-rank" in line else None) == told


def test_llama_cpp_embeds_only_where_it_does_nothing_else() -> None:
    made = settings("llama-server")
    assert "--embeddings" not in PRESETS["llama-server"].argv(made, Place(8000, 4, "name"))
    assert "--embeddings" in PRESETS["llama-server"].argv(made, Place(8000, 4, "name", embeds=True))


@pytest.mark.parametrize("engine", ["llama-server", "llamafile", "vllm", "transformers"])
@pytest.mark.parametrize("asked", ["chat/completions,completions,embeddings", "embeddings", "chat/completions"])
def test_a_node_says_what_its_engine_serves(engine: str, asked: str) -> None:
    node = load(NodeSettings, {"NODE_TYPE": "local", "LOCAL_ENGINE": engine, "MODEL_PATH": "/m", "ENDPOINTS": asked})
    told = LocalEngine(node, lambda url, key: None).details.endpoints  # type: ignore[arg-type,return-value]
    apart = engine in ("llama-server", "llamafile") and asked != "embeddings"
    assert told == tuple(name for name in node.served if name != "embeddings" or not apart)


def test_a_template_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "chatml.j2"
    file.write_text("{{ t }}")
    assert f"--chat-template-file {file}" in command("llama-server", CHAT_TEMPLATE=str(file))
    assert "--chat-template-file gone.jinja" in command("llama-server", CHAT_TEMPLATE="gone.jinja")
    assert "--chat-template chatml" in command("llama-server", CHAT_TEMPLATE="chatml")
    assert "--chat-template x" in command("llama-server", CHAT_TEMPLATE="x" * 5000)


def test_a_command_line_may_hold_json() -> None:
    line = "serve --port {port} --model {model} --np {slots} -c {context} --x '{\"a\": 1}'"
    made = settings("command", LOCAL_COMMAND=line)
    assert PRESETS["command"].argv(made, Place(8000, 4, "name", 512)) == [
        *("serve", "--port", "8000", "--model", "/m/model.gguf", "--np", "4", "-c", "512", "--x", '{"a": 1}')
    ]


def test_what_an_engine_cannot_honour_is_said_in_a_sentence() -> None:
    every = {
        "DEVICE": "cuda", "GPUS": "0, 1", "NUM_GPUS": "2", "MAX_GPU_MEMORY_GIB": "20", "CPU_OFFLOAD_GIB": "4",
        "GPU_LAYERS": "9", "DTYPE": "bfloat16", "QUANTIZATION": "awq", "LORA": "/l", "ATTENTION": "flash",
        "COMPILE": "true", "STREAM_INTERVAL": "2", "MAX_BATCH": "8", "SEED": "1", "REVISION": "r",
        "EMBEDDING_INPUT": "chunk",
        "TRUST_REMOTE_CODE": "true", "CHAT_TEMPLATE": "t",
    }  # fmt: skip
    for engine in get_args(EngineName):
        assert unheeded(settings(engine)) == []
        said = unheeded(settings(engine, **every))
        honoured = PRESETS[engine].honours
        assert len(said) == len(every) - len(honoured), engine
    assert "QUANTIZATION is set, but LOCAL_ENGINE=llamafile cannot honour it: the model's file decides." in unheeded(
        settings("llamafile", **every)
    )


def test_gpus_are_shown_to_an_engine_by_their_numbers() -> None:
    assert visible_gpus(settings("vllm", GPUS="2, 3")) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert visible_gpus(settings("llama-server", NUM_GPUS="2")) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert visible_gpus(settings("vllm", DEVICE="cpu")) == {"CUDA_VISIBLE_DEVICES": ""}
    assert visible_gpus(settings("vllm")) == {}


@pytest.mark.parametrize(
    ("seen", "shown"), [("4,5,6,7", "4,5"), ("GPU-8932f937, MIG-1", "GPU-8932f937,MIG-1"), ("3", "3"), ("", "")]
)
def test_of_gpus_that_somebody_has_chosen_the_first_are_taken(
    seen: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert visible_gpus(settings("vllm", NUM_GPUS="2")) == {"CUDA_VISIBLE_DEVICES": shown}


@pytest.mark.parametrize(
    ("environment", "shown", "numbers"),
    [
        ({}, None, None),
        ({}, "2,3", [2, 3]),
        ({}, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", None),
        ({"DEVICE": "cpu"}, "2,3", []),
        ({"DEVICE": "cuda:1"}, None, [1]),
        ({"DEVICE": "cuda:1"}, "2,3", [3]),
        ({"GPUS": "5"}, "2,3", [5]),
        ({"NUM_GPUS": "2"}, None, [0, 1]),
    ],
)
def test_only_the_gpus_that_the_engine_works_on_are_looked_at(
    environment: dict[str, str], shown: str | None, numbers: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's memory is no reason to take fewer requests."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert gpus_of(settings("vllm", **environment)) == numbers


def test_a_local_node_is_called_what_its_model_is_called() -> None:
    def name(path: str) -> str:
        return load(NodeSettings, {"NODE_TYPE": "local", "MODEL_PATH": path}).model

    assert name("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen2.5-0.5B-Instruct"
    assert name("/models/llama-3.gguf") == "llama-3"
    assert name("/models/phi/") == "phi"


@pytest.mark.parametrize(
    ("env", "sentence"),
    [({}, "also needs MODEL_PATH"), ({"LOCAL_ENGINE": "command"}, "also needs LOCAL_COMMAND")],
)
def test_a_local_node_without_a_model_does_not_start(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(WrongSettings, match=sentence):
        load(NodeSettings, {"NODE_TYPE": "local", **env})


def test_an_engine_gets_no_secret_but_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PULSAR_TOKEN", "API_KEYS_FILE", "DATABASE_URL", "AWS_SECRET", "HF_TOKEN", "PORT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")
    given = child_environment(frozenset(("PORT",)))
    assert {"HF_TOKEN", "OMP_NUM_THREADS", "PATH"} <= given.keys()
    assert not {"PULSAR_TOKEN", "API_KEYS_FILE", "DATABASE_URL", "AWS_SECRET", "PORT"} & given.keys()


@pytest.mark.parametrize(
    ("text", "names", "figures"),
    [
        ("model_requests_waiting 2\nmodel_kv_cache_use 0.5\nmodel_requests_running 3\n", TRANSFORMERS, (3, 2, 0.5)),
        ("# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 1\n", LLAMA_CPP, (None, 1, None)),
        ('vllm:num_requests_waiting{a="1"} 1.0\nvllm:num_requests_waiting{a="2"} 2.0\n', VLLM, (None, 3, None)),
        ('vllm:gpu_cache_usage_perc{m="x"} 0.25\n', VLLM, (None, None, 0.25)),
        ("<html>", VLLM, (None, None, None)),
        ("{\r,\r=# TYPE }", VLLM, (None, None, None)),
        ("", VLLM, (None, None, None)),
    ],
)
def test_each_engines_figures_are_read(text: str, names: FigureNames, figures: tuple[int, int, float]) -> None:
    assert figures_of(text, names) == Figures(*figures)


@pytest.mark.parametrize(
    ("status", "body", "health"),
    [
        (200, b"", READY),
        (503, b'{"state":"loading","progress":0.5}', Health("loading", 0.5)),
        (503, b'{"state":"loading","progress":7}', Health("loading")),
        (503, b'{"state":"loading","progress":0.1,"sentence":"3 GiB."}', Health("loading", 0.1, "3 GiB.")),
        (503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', Health("loading")),
        (503, b"<html>", Health("loading")),
        (500, b"", Health("unwell")),
        (404, b"", None),
    ],
)
def test_each_engines_health_is_read(status: int, body: bytes, health: Health | None) -> None:
    assert health_of(status, body) == health


def request(endpoint: str, body: object) -> Request:
    fields = {"request_id": "req_1", "model": "m", "endpoint": endpoint, "body": json.dumps(body).encode()}
    times = {"received_ms": 1, "deadline_ms": 2}
    return msgspec.convert({**fields, "gateway": "gateway-1", **times}, Request)


def body_of(found: Request) -> dict[str, object]:
    found_body: dict[str, object] = json.loads(found.body)
    return found_body


def test_a_chat_goes_on_after_what_was_shown_within_the_clients_limit() -> None:
    user = {"role": "user", "content": "Hi"}
    found = body_of(continued(request("chat/completions", {"messages": [user], "max_tokens": 10}), "So far", [1, 2, 3]))
    assert found["messages"] == [user, {"role": "assistant", "content": "So far"}]
    assert (found["continue_final_message"], found["add_generation_prompt"], found["max_tokens"]) == (True, False, 7)
    found = body_of(
        continued(request("chat/completions", {"messages": [], "max_completion_tokens": 2}), "x" * 40, None)
    )
    assert found["max_completion_tokens"] == 1
    begun = {"messages": [user, {"role": "assistant", "content": "The ans"}], "continue_final_message": True}
    found = body_of(continued(request("chat/completions", begun), "wer", None))
    assert found["messages"] == [user, {"role": "assistant", "content": "The answer"}]


def test_a_completion_goes_on_after_what_was_shown() -> None:
    assert body_of(continued(request("completions", {"prompt": "a"}), "b", None))["prompt"] == "ab"
    assert body_of(continued(request("completions", {"prompt": "a"}), "bcd", [1, 2, 3]))["max_tokens"] == 13
    assert body_of(continued(request("completions", {"prompt": ["a"]}), "b", None))["prompt"] == "ab"
    assert body_of(continued(request("completions", {"prompt": [1, 2]}), "b", [3]))["prompt"] == [1, 2, 3]
    assert body_of(continued(request("completions", {"prompt": [[1, 2]]}), "b", [3]))["prompt"] == [[1, 2, 3]]
    for prompt in ([1, 2], [[1]], ["a", "b"], None):
        with pytest.raises(InvalidRequest):
            continued(request("completions", {"prompt": prompt}), "b", None)


def test_a_containers_limit_counts_without_what_the_kernel_gives_back(tmp_path: Path) -> None:
    def use(limit: str, current: int, inactive: int) -> float | None:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text(str(current))
        (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")
        return Resources(cgroup=tmp_path).use().host

    assert use("1000", 990, 40) == 0.95
    machine = use("max", 990, 40)
    assert machine is not None
    assert machine < 0.95
