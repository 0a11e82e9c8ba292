"""A model that cannot be served says why, by kind; one that only embeds does that."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec import structs

from tests.local.batch_of import GREEDY, answers, loaded
from tests.local.server_process import ServerProcess
from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read
from workernode.local.server.front.grammars import FORMATS, of_response_format
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tokens import Tokens
from workernode.local.server.steps import cores, forward, growth, loading, model
from workernode.local.server.steps.attention import CachedAttention, _zeros
from workernode.local.server.steps.grammar import Grammars, WrongGrammar
from workernode.local.server.words import Defaults


def written(folder: Path, config: object, *, weights: bool = True) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


def problem(folder: Path, *flags: str) -> str:
    with pytest.raises(CannotServe) as raised:
        loaded(folder, *flags)
    assert raised.value.sentence.endswith(".")
    return raised.value.kind


def test_each_fault_has_its_kind(tmp_path: Path, tiny_folder: Path) -> None:
    assert problem(tmp_path / "nothing") == "model_files"
    assert problem(tmp_path) == "model_files"
    assert problem(written(tmp_path, {"model_type": "llama"}, weights=False)) == "model_files"
    assert problem(written(tmp_path, {"model_type": "unheard_of"})) == "architecture"
    own_code = {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config"}}
    assert problem(written(tmp_path, own_code)) == "architecture"
    assert problem(tiny_folder, "--device", "cuda:63") == "no_such_device"
    assert problem(tiny_folder, "--device", "abacus") == "no_such_device"
    assert problem(tiny_folder, "--kv-tokens", str(10**12)) == "out_of_memory"
    assert problem(tiny_folder, "--max-context", "100000") == "usage"
    assert problem(tiny_folder, "--quantization", "awq") == "usage"
    assert problem(tiny_folder, "--device", "cpu", "--num-gpus", "2") == "usage"
    assert problem(tiny_folder, "--stream-interval", "0") == "usage"


def copied(tiny_folder: Path, folder: Path) -> Path:
    """A model to spoil."""
    return Path(shutil.copytree(tiny_folder, folder, dirs_exist_ok=True))


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("config.json", '{"model_type": "llama", "max_position_embeddings": null}', "architecture"),
        ("config.json", '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 3}', "architecture"),
        ("tokenizer_config.json", "[]", "model_files"),
        ("generation_config.json", "[]", "architecture"),
    ],
)
def test_a_file_of_a_form_that_transformers_does_not_expect_is_told(
    tmp_path: Path, tiny_folder: Path, name: str, text: str, kind: str
) -> None:
    (copied(tiny_folder, tmp_path) / name).write_text(text)
    assert problem(tmp_path) == kind


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path, tiny_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = copied(tiny_folder, tmp_path) / "model.safetensors"
    weights = load_file(file)
    save_file({name: each for name, each in weights.items() if "layers.1.mlp" not in name}, file, {"format": "pt"})
    with pytest.raises(
        CannotServe, match=r"lack 3 of the model's weights, such as model.layers.1.mlp.down_proj"
    ) as raised:
        loaded(tmp_path)
    assert raised.value.kind == "model_files"


@pytest.mark.parametrize("name", ["LlamaForSequenceClassification", "BertForTokenClassification"])
def test_what_judges_texts_is_not_served_as_what_writes_them(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    file = copied(tiny_folder, tmp_path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": [name]}))
    with pytest.raises(CannotServe, match=f"{name} judges texts"):
        loaded(tmp_path)


def test_the_cache_has_its_memory_before_anybody_asks(tiny_folder: Path) -> None:
    held = loaded(tiny_folder, "--threads", "1")
    assert held.steps is not None
    assert (
        len(held.steps._attention._layers) == json.loads((tiny_folder / "config.json").read_text())["num_hidden_layers"]
    )


def test_what_is_wrong_in_the_environment_is_told_as_if_it_were_a_flag() -> None:
    with pytest.raises(CannotServe, match="QUANTIZATION=foo is none of 8bit, 4bit, awq, gptq"):
        read(["--model", "x"], {"QUANTIZATION": "foo"})
    assert read(["--model", "x"], {"DTYPE": "bfloat16"}).dtype == "bfloat16"


def test_something_long_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TELL_EVERY_S", 0.001)
    told: list[tuple[str, str, float]] = []
    heard = threading.Event()
    sizes = iter(range(1000))

    def progress(*words: Any) -> None:
        told.append(words)
        if len(told) == 3:
            heard.set()

    with growth.growing(progress, "loading", 0.1, lambda: f"{next(sizes)} bytes."):
        assert heard.wait(10)
    assert told[:3] == [("loading", f"{number} bytes.", 0.1) for number in (1, 2, 3)]
    count = len(told)
    # What does not grow is not told of, and nothing after the end.
    with growth.growing(progress, "loading", 0.1, lambda: "the same"):
        assert not threading.Event().wait(0.02)
    assert len(told) == count


@pytest.mark.parametrize(("passed_on", "context"), [(False, 40), (True, 512)])
def test_a_window_that_stands_in_masks_alone_bounds_the_context(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, passed_on: bool, context: int
) -> None:
    """Nobody makes masks here: beyond the window such a model would see what it must not."""
    from transformers import MistralConfig, MistralForCausalLM

    sizes: Any = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 40}
    MistralForCausalLM(MistralConfig(max_position_embeddings=512, **sizes)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    if not passed_on:
        monkeypatch.setattr(CachedAttention, "windows", property(lambda _: set(), lambda *_: None), raising=False)
    assert loaded(tmp_path).ready.context_length == context


def test_a_step_has_no_more_threads_than_the_containers_limit_amounts_to(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(model, "_step_s", lambda _: -torch.get_num_threads())  # the more the faster, for a moment
    try:
        for limit, threads in ((3, 3), (None, 8), (9, 8)):
            torch.set_num_threads(8)
            monkeypatch.setattr(cores, "of_container", lambda limit=limit: limit)
            loaded(tiny_folder, "--threads", "0")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_cache_takes_memory_as_it_is_written() -> None:
    import torch

    before = psutil.Process().memory_info().rss
    pool = _zeros(torch.ones(1, 4, 64, dtype=torch.bfloat16), 2**20)  # half a GiB
    assert pool.shape == (2**20, 4, 64)
    assert pool.dtype == torch.bfloat16
    assert psutil.Process().memory_info().rss - before < 2**26
    pool[7] = 1
    assert float(pool[6:9].float().sum()) == 4 * 64


def test_the_size_of_a_token_is_that_of_the_keys_and_values_that_were_kept(tiny_folder: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    heads, size = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]
    held = loaded(tiny_folder)
    assert held.steps is not None
    answers(held, ([5, 6], GREEDY))
    assert held.steps._attention.token_bytes == 2 * config["num_hidden_layers"] * heads * size * 4


def test_a_tokenizer_with_more_tokens_than_the_model_can_be_bound(tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    size = len(tokenizer)
    tokenizer.add_tokens(["<one more>"])
    grammars = Grammars(tokenizer, size, [tokenizer.eos_token_id])
    grammar = of_response_format({"type": "json_object"})
    assert grammar is not None
    masks = [grammars.matcher(grammar).mask() for _ in range(3)]
    assert all(len(mask) == size and mask.any() and not mask.all() for mask in masks)


def test_a_tokenizer_that_cannot_be_bound_refuses_one_request_and_no_other() -> None:
    with pytest.raises(WrongGrammar):
        Grammars(object(), 10, []).matcher("{}")


def test_every_format_that_is_handed_on_is_obeyed_and_one_that_is_not_refuses_no_schema(tiny_folder: Path) -> None:
    grammars = Grammars(loading.load_tokenizer(loading.Files(tiny_folder, None), trust=False), 512, [2])
    for name in (*FORMATS, "password"):
        schema = {"type": "object", "properties": {"a": {"type": "string", "format": name}}}
        asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        grammars.matcher(of_response_format(asked) or "")


def test_choices_share_one_grammar_and_each_has_its_own_place_in_it(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    grammars = Grammars(tokenizer, len(tokenizer), [tokenizer.eos_token_id])
    made: list[str] = []
    make = grammars._made

    def counted(grammar: str) -> Any:
        made.append(grammar)
        return make(grammar)

    monkeypatch.setattr(grammars, "_made", counted)
    grammar = of_response_format({"type": "json_object"})
    assert grammar is not None
    one, other = grammars.matcher(grammar), grammars.matcher(grammar)
    assert made == [grammar]
    before = other.mask()
    one.took(int(one.mask().nonzero()[0]))
    assert other.mask().equal(before)
    assert grammars.matcher(grammar).mask().equal(before)


def test_a_model_that_reckons_long_texts_in_another_way_is_served_up_to_these(
    tmp_path: Path, tiny_folder: Path
) -> None:
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes: Any = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    factors = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    torch.manual_seed(0)
    config = Phi3Config(max_position_embeddings=512, original_max_position_embeddings=64, rope_scaling=factors, **sizes)
    Phi3ForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    assert loaded(tmp_path).ready.context_length == 64
    with pytest.raises(CannotServe, match="more than the model's 64 tokens that are served here"):
        loaded(tmp_path, "--max-context", "128")


@pytest.mark.parametrize(
    ("scaling", "context", "most"),
    [
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 1024, 1024),
        ({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128}, 512, 512),
        ({"type": "linear", "factor": 2.0}, 512, 1024),
        ({"type": "dynamic", "factor": 2.0}, 512, 512),
    ],
    ids=lambda value: f"{value['type']}-{value['factor']:g}" if isinstance(value, dict) else "",
)
def test_scaled_positions_are_as_many_as_their_scaling_makes_them(
    tmp_path: Path, tiny_folder: Path, scaling: dict[str, Any], context: int, most: int
) -> None:
    """Of linear scaling the files tell less than there is, or not: more is served where it is asked for."""
    import torch
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_bytes())
    del config["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_theta": 1e4, "rope_scaling": scaling}))
    assert loaded(tmp_path).ready.context_length == context
    served = loaded(tmp_path, "--max-context", str(most))
    assert served.ready.context_length == most
    with pytest.raises(CannotServe, match=f"{most + 1} tokens is more than the model's {most} tokens\\."):
        loaded(tmp_path, "--max-context", str(most + 1))
    prompt = [3 + number * 7 % 290 for number in range(most - 41)]
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    made = reference.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None)
    found = answers(served, (prompt, structs.replace(GREEDY, top_logprobs=0)))
    assert [each.token for piece in found.pieces[0] for each in piece.logprobs or []] == made[0, len(prompt) :].tolist()


def test_a_model_whose_body_has_another_name_than_it_says_is_served_and_embeds(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """Llama 4, up to the texts in which its chunks show."""
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    sizes: Any = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "intermediate_size_mlp": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = Llama4TextConfig(num_local_experts=2, attention_chunk_size=64, pad_token_id=0, **sizes)
    Llama4ForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    model = loaded(tmp_path)
    assert model.ready.context_length == 64
    assert [len(vector) for vector in model.embed([[5, 6], [7]])] == [64 * 4] * 2


def test_a_model_with_an_attention_of_its_own_is_told_so(tmp_path: Path, tiny_folder: Path) -> None:
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, alibi=False)
    FalconForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    with pytest.raises(CannotServe, match="FalconForCausalLM cannot be batched here: its attention") as raised:
        loaded(tmp_path)
    assert raised.value.kind == "architecture"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (IndexError("index_copy_(): Number of indices (24) should be equal"), "architecture"),
        (AssertionError(), "architecture"),
        (MemoryError(), "out_of_memory"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_a_model_raises_that_is_called_in_our_way_is_told(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    """As DeepSeek's newest, which has fewer keys than tokens: to start it again and again would not help."""

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(forward.Forward, "logits", fails)
    assert problem(tiny_folder) == kind


def test_of_several_templates_that_for_tools_is_told_too(tmp_path: Path, tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    for path in tiny_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template = {"default": "plain", "tool_use": "with tools"}
    tokenizer.save_pretrained(tmp_path)
    ready = loaded(tmp_path).ready
    assert (ready.chat_template, ready.tool_template) == ("plain", "with tools")


def test_the_models_own_sampling_is_the_default(tmp_path: Path, tiny_folder: Path) -> None:
    for path in tiny_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    told = tmp_path / "generation_config.json"
    told.unlink()
    assert loaded(tmp_path).ready.defaults == Defaults()
    told.write_text(json.dumps({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}))
    assert loaded(tmp_path).ready.defaults == Defaults(temperature=0.6, top_p=0.95, top_k=20)
    assert loaded(tmp_path, "--generation-config", "none").ready.defaults == Defaults()
    told.write_text(json.dumps({"do_sample": False, "repetition_penalty": 1.1}))
    assert loaded(tmp_path).ready.defaults == Defaults(temperature=0.0, repetition_penalty=1.1)
    told.write_text(json.dumps({"top_p": 7.0}))
    assert problem(tmp_path) == "model_files"


def test_a_token_that_the_model_does_not_know_is_refused(tiny_folder: Path) -> None:
    flags = read(["--model", str(tiny_folder)], {})
    tokens = Tokens(structs.replace(loaded(tiny_folder).ready, vocabulary=40), flags)
    assert tokens.of_text("", special=False) == []
    with pytest.raises(Problem, match="a token that this model's tokenizer knows, and the model does not"):
        tokens.of_text("once upon a time")


def test_broken_weights_are_the_files_fault(tmp_path: Path, tiny_folder: Path) -> None:
    for path in tiny_folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert problem(tmp_path) == "model_files"


def test_a_server_that_cannot_go_on_says_so_in_its_last_line(tmp_path: Path) -> None:
    code, line = ServerProcess(tmp_path).ended()
    assert code == 4
    assert line["error"] == "model_files"
    assert "config.json" in line["sentence"]
