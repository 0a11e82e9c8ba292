"""Aliases, the default model and the models file: what they resolve to, and what is refused at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.http.model_list import listed, shown
from gateway.models.file import FILE_BYTES_MAX
from gateway.models.register import Models
from gateway.settings import GatewaySettings
from process.settings import WrongSettings, load
from wire.errors import InvalidRequest, ModelNotFound, UnsupportedEndpoint
from wire.presence import Presence

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[[model]]
name = "org/large"
aliases = ["large", "gpt-4"]
owned_by = "org"
context_length = 1000
description = "The large one."

[[model]]
name = "small"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(FILE)
    return path


def settings(**env: str) -> GatewaySettings:
    return load(GatewaySettings, env)


def problem(**env: str) -> str:
    with pytest.raises(WrongSettings) as caught:
        settings(**env)
    (sentence,) = caught.value.problems
    return sentence


def presence(model: str, *endpoints: str, context_length: int | None = None) -> Presence:
    return Presence(
        node=f"node-{model}-{len(endpoints)}",
        name="n",
        model=model,
        type="static",
        version="1",
        state="ready",
        slots=1,
        sent_ms=1,
        started_ms=1,
        endpoints=endpoints,
        context_length=context_length,
    )


def test_an_alias_and_the_default_lead_to_their_model(file: Path) -> None:
    names = settings(MODELS="other", MODELS_FILE=str(file), MODEL_ALIASES="fast=small,o=other", DEFAULT_MODEL="fast")
    expected = {
        None: "small",
        "": "small",
        "large": "org/large",
        "gpt-4": "org/large",
        "o": "other",
        "small": "small",
        "unknown": "unknown",
    }
    assert {asked: names.model_names.resolve(asked) for asked in expected} == expected
    assert set(names.model_names.declared) == {"other", "org/large", "small"}


def test_without_a_default_a_model_must_be_named() -> None:
    names = settings().model_names
    for asked, code in ((None, "missing_required_parameter"), ("", "invalid_value")):
        with pytest.raises(InvalidRequest) as caught:
            names.resolve(asked)
        assert (caught.value.own_code, caught.value.param) == (code, "model")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"MODEL_ALIASES": "a=b,a=c"}, "'a' is an alias of 'b' and of 'c'"),
        ({"MODEL_ALIASES": "a=b", "MODELS": "a"}, "'a' is declared as a model and as an alias of 'b'"),
        ({"MODEL_ALIASES": "a=b,b=c"}, "'a' is an alias of 'b', which is one itself"),
        ({"MODEL_ALIASES": "a=a"}, "'a' is an alias of 'a'"),
    ],
)
def test_names_that_mean_two_things_are_refused(env: dict[str, str], words: str) -> None:
    assert words in problem(**env)
    assert "MODEL_ALIASES" in problem(**env)


@pytest.mark.parametrize(
    "text",
    [
        "[[model]",
        "",
        "[[model]]\n",
        "model = 1",
        '[[model]]\nname = "a"\nnmae = "b"',
        '[[model]]\nname = ""',
        '[[model]]\nname = "a"\n[[model]]\nname = "a"',
        '[[model]]\nname = "a"\ncontext_length = 0',
        '[[model]]\nname = "a"\naliases = [""]',
        "\udcff",
    ],
)
def test_a_models_file_that_cannot_be_used_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text, errors="surrogateescape")
    assert problem(MODELS_FILE=str(path)).startswith("MODELS_FILE: ")


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("owned_by", ["x", "x" * 256], ["", "x" * 257]),
        ("description", ["", "x" * 1000], ["x" * 1001]),
        ("context_length", [1, 10_000_000], [0, -1, 1.5]),
    ],
)
def test_what_is_declared_of_a_model_has_its_bounds(
    field: str, good: list[object], bad: list[object], tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    for value in good:
        path.write_text(f'[[model]]\nname = "a"\n{field} = {value!r}\n')
        settings(MODELS_FILE=str(path))
    for value in bad:
        path.write_text(f'[[model]]\nname = "a"\n{field} = {value!r}\n')
        assert f"$.model[0].{field}" in problem(MODELS_FILE=str(path))


def test_a_models_file_that_is_not_there_or_is_too_large_is_told_as_such(tmp_path: Path) -> None:
    assert "cannot be read" in problem(MODELS_FILE=str(tmp_path / "none"))
    path = tmp_path / "models.toml"
    path.write_text('[[model]]\nname = "a"\n'.ljust(FILE_BYTES_MAX))
    settings(MODELS_FILE=str(path))
    path.write_text('[[model]]\nname = "a"\n'.ljust(FILE_BYTES_MAX + 1))
    assert f"more than {FILE_BYTES_MAX} bytes" in problem(MODELS_FILE=str(path))


def test_models_are_listed_with_what_was_declared_and_what_their_nodes_say(file: Path) -> None:
    names = settings(MODELS_FILE=str(file), MODEL_ALIASES="hidden=small,lost=nowhere").model_names
    models = Models(names.declared, 0.0, 7)
    models.heard(presence("small", "embeddings", context_length=500), 0.0, 7)
    models.heard(presence("org/large", "completions", context_length=2000), 0.0, 7)
    models.heard(presence("hidden", "completions"), 0.0, 7)
    found = {model.id: model for model in listed(models, names)}
    assert list(found) == ["gpt-4", "hidden", "large", "org/large", "small"]
    large = found["org/large"]
    assert (large.owned_by, large.workernode.context_length) == ("org", 1000)
    assert (large.workernode.description, large.workernode.aliases) == ("The large one.", ["gpt-4", "large"])
    assert (found["small"].owned_by, found["small"].workernode.endpoints) == ("workernode", ["embeddings"])
    assert (found["hidden"].workernode.alias_of, found["hidden"].workernode.context_length) == ("small", 500)
    with pytest.raises(ModelNotFound):
        shown("lost", models, names)


def test_an_endpoint_is_refused_only_while_nodes_are_there_that_lack_it() -> None:
    models = Models(["m"], 0.0, 7)
    models.admit("m", "embeddings", 0)
    models.heard(presence("m", "chat/completions", "completions"), 0.0, 7)
    models.admit("m", "completions", 0)
    with pytest.raises(UnsupportedEndpoint, match=r"It serves chat/completions, completions\."):
        models.admit("m", "embeddings", 0)
    models.heard(presence("m", "embeddings"), 0.0, 7)
    models.admit("m", "embeddings", 0)
