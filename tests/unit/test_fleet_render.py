"""``fleet render``: manifests without a cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

ENV = {"PULSAR_URL": "pulsar://pulsar:6650", "PULSAR_ADMIN_URL": "http://pulsar:8080"}
MODEL = """
apiVersion: models.workernode.io/v1alpha1
kind: AIModel
metadata: {name: small}
spec: {type: static, model: small}
"""


def rendered(tmp_path: Path, text: str, *options: str, env: dict[str, str] | None = None) -> Result:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return CliRunner().invoke(main, ["render", *options, str(path)], env=ENV if env is None else env)


def test_every_model_of_a_file_is_rendered_as_documents_for_kubectl(tmp_path: Path) -> None:
    done = rendered(tmp_path, f"{MODEL}---{MODEL.replace('small', 'other')}", "--namespace", "models")
    assert done.exit_code == 0
    documents = list(yaml.safe_load_all(done.stdout))
    assert [each["metadata"]["name"] for each in documents if each["kind"] == "Deployment"] == [
        "aimodel-small",
        "aimodel-other",
    ]
    assert {each["metadata"]["namespace"] for each in documents} == {"models"}
    assert not any("ownerReferences" in each["metadata"] for each in documents)
    assert any(each["kind"] == "ScaledObject" for each in documents)


def test_without_keda_the_number_of_nodes_is_written(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(rendered(tmp_path, MODEL, "--no-keda").stdout))
    assert not any(each["kind"] == "ScaledObject" for each in documents)
    assert next(each for each in documents if each["kind"] == "Deployment")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no AIModel"),
        ("kind: Pod", "each document must have apiVersion models.workernode.io/v1alpha1 and kind AIModel"),
        ("{", "is no YAML"),
        ("day: 2026-02-30", "is no YAML: day "),
        (MODEL.replace("static", "magic"), "Invalid enum value 'magic'"),
        (MODEL.replace("model: small", "model: small, slotz: 3"), "there is no field spec.slotz"),
        (MODEL.replace("model: small", "model: 'small '"), "spec.model must not begin or end with a space"),
        (MODEL.replace("name: small", "name: 5"), "the name of an AIModel has 1 to 40 characters"),
        (MODEL.replace("model: small", "model: small, env: [{name: A, value: 5}]"), "got `int` - at `$.env[0].value`"),
        (MODEL.replace("model: small", "model: small, env: [{value: a}]"), "missing required field `name`"),
        (
            MODEL.replace("static", "remote, remote: {apiURL: 'ftp://a.example', apiKeySecret: {name: a, key: b}}"),
            "spec.remote.apiURL is no address of http or https",
        ),
    ],
)
def test_a_file_that_cannot_be_rendered_is_told_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    done = rendered(tmp_path, text)
    assert done.exit_code == 65
    assert words in done.stderr
    assert not done.stdout


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    done = rendered(tmp_path, MODEL, env={"PULSAR_ADMIN_URL": "", "PULSAR_URL": "memory:"})
    assert done.exit_code == 2
    assert "PULSAR_ADMIN_URL: it is not set" in done.stderr
    assert "PULSAR_URL: a broker in one process reaches no nodes" in done.stderr


def test_a_missing_library_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fleet.render", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = rendered(tmp_path, MODEL)
    assert (done.exit_code, done.stderr) == (1, "Error: yaml is missing: install requirements/kubernetes.txt.\n")
