"""Weights on other devices, in other forms, and with what was trained beside them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.local.batch_of import GREEDY, answers, loaded, prompts
from workernode.local.server import flags
from workernode.local.server.ending import CannotServe
from workernode.local.server.steps import loading, placement

if TYPE_CHECKING:
    from pathlib import Path

GIB = placement.GIB


def asked(*arguments: str) -> flags.Flags:
    return flags.read(["--model", "m", *arguments], {})


def texts(folder: Path, *arguments: str) -> list[str]:
    model = loaded(folder, *arguments)
    found = answers(model, *((prompt, GREEDY) for prompt in prompts(4)))
    return [found.text(number) for number in range(4)]


def test_weights_are_divided_over_the_gpus_with_room_for_the_cache_and_the_rest_goes_to_the_host() -> None:
    assert placement.max_memory(asked(), {0: 10 * GIB, 1: 20 * GIB}) == {0: 7 * GIB, 1: 14 * GIB}
    bounded = asked("--max-gpu-memory-gib", "8", "--cpu-offload-gib", "3")
    assert placement.max_memory(bounded, {0: 10 * GIB, 1: 5 * GIB}) == {0: 8 * GIB, 1: 5 * GIB, "cpu": 3 * GIB}


def test_more_gpus_than_there_are_is_no_such_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "count_of", lambda kind: 2)
    with pytest.raises(CannotServe, match="NUM_GPUS=3, but this process sees 2") as raised:
        placement.arguments_of(asked("--num-gpus", "3"), None, torch.device("cuda"))
    assert raised.value.kind == "no_such_device"


def test_weights_that_are_bounded_lie_on_the_gpu_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "count_of", lambda kind: 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (number * 10 * GIB, 40 * GIB))

    def memory_of(device: str, *flags: str) -> Any:
        return placement.arguments_of(asked(*flags), None, torch.device(device))["max_memory"]

    assert memory_of("cuda:1", "--max-gpu-memory-gib", "8") == {1: 8 * GIB}
    assert memory_of("cuda:2", "--num-gpus", "2", "--cpu-offload-gib", "3") == {
        2: 14 * GIB,
        3: 21 * GIB,
        "cpu": 3 * GIB,
    }
    with pytest.raises(CannotServe, match="NUM_GPUS=2 from cuda:3 on, but this process sees 4"):
        memory_of("cuda:3", "--num-gpus", "2")


def test_a_missing_library_is_one_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    for device, library in (("cuda", "bitsandbytes"), ("cpu", "torchao")):
        with pytest.raises(CannotServe) as raised:
            placement.arguments_of(asked("--quantization", "4bit"), None, torch.device(device))
        assert raised.value.kind == "usage"
        sentence = f"QUANTIZATION=4bit needs {library}: run pip install '.[quantized]' in the checkout."
        assert raised.value.sentence == sentence


def test_a_model_quantized_in_another_way_is_not_taken_for_what_was_asked() -> None:
    class Config:
        quantization_config: Any = {"quant_method": "gptq"}  # noqa: RUF012 - as transformers has it

    with pytest.raises(CannotServe, match="quantized as gptq"):
        placement.arguments_of(asked("--quantization", "awq"), Config(), torch.device("cpu"))
    with pytest.raises(CannotServe, match=r"gptqmodel: run pip install '\.\[gptq\]'"):
        placement.arguments_of(asked(), Config(), torch.device("cpu"))


def test_layers_away_from_the_device_are_brought_over_for_each_step(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk stands in for the host, and the host for a GPU."""
    placed = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    placed |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    expected = texts(tiny_folder)
    monkeypatch.setattr(
        loading, "arguments_of", lambda *_: {"device_map": placed, "offload_folder": tmp_path / "offloaded"}
    )
    with pytest.raises(CannotServe, match="does not fit"):
        loaded(tiny_folder)
    monkeypatch.setattr(loading, "require_no_disk", lambda model: None)
    assert texts(tiny_folder) == expected


@pytest.mark.parametrize(("form", "differs_most"), [("8bit", 0.1), ("4bit", 0.6)])
def test_quantized_weights_say_nearly_the_same(tiny_folder: Path, form: str, differs_most: float) -> None:
    model, plain = loaded(tiny_folder, "--quantization", form), loaded(tiny_folder)
    inputs = [list(range(3, 40))]
    ours, own = (torch.frombuffer(bytearray(each.embed(inputs)[0]), dtype=torch.float32) for each in (model, plain))
    difference = float((ours - own).norm() / own.norm())
    assert 1e-4 < difference < differs_most
    assert answers(model, (prompts(1)[0], GREEDY)).text(0)


def test_attention_written_out_says_the_same(tiny_folder: Path) -> None:
    assert texts(tiny_folder, "--attention", "eager") == texts(tiny_folder)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_compiled_model_says_the_same(tiny_folder: Path) -> None:
    assert texts(tiny_folder, "--compile") == texts(tiny_folder)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize("merges", [True, False])
def test_an_adapter_changes_the_answer_as_peft_has_it(tiny_folder: Path, tmp_path: Path, merges: bool) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder), config).save_pretrained(tmp_path)
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path)
    prompt = prompts(1)[0]
    made = reference.generate(
        input_ids=torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    expected = AutoTokenizer.from_pretrained(tiny_folder).decode(made[len(prompt) :], skip_special_tokens=True)
    if merges:
        assert texts(tiny_folder, "--lora", str(tmp_path))[0] == expected != texts(tiny_folder)[0]
    else:
        assert texts(tiny_folder, "--lora", str(tmp_path), "--quantization", "8bit")[0]
    with pytest.raises(CannotServe, match="adapter"):
        loaded(tiny_folder, "--lora", str(tiny_folder))


def test_an_adapter_is_not_merged_into_weights_that_came_quantized(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, TorchAoConfig

    form = placement.arguments_of(asked("--quantization", "8bit"), None, torch.device("cpu"))["quantization_config"]
    assert isinstance(form, TorchAoConfig)
    quantized = AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=form)
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    quantized.save_pretrained(tmp_path)
    merged: list[bool] = []

    def noted(model: Any, folder: str, *, merges: bool) -> Any:
        merged.append(merges)
        return model

    monkeypatch.setattr(loading, "_with_lora", noted)
    for folder in (tmp_path, tiny_folder):
        loaded(folder, "--lora", "an adapter")
    assert merged == [False, True]
