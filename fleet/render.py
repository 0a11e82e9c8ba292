"""``fleet render``: what the controller would make of AIModels, for people who apply it themselves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from controller.aimodel import API_VERSION, KIND, AIModel, WrongModel, read
from controller.manifests import Place, render
from controller.settings import ControllerSettings
from process.settings import EXIT_WRONG_SETTING, WrongSettings, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXIT_WRONG_FILE = 65


class Unreadable(Exception):
    """What is wrong with a file, in a sentence."""


def render_files(files: tuple[Path, ...], *, namespace: str, keda: bool, pod_monitors: bool) -> int:
    """Print the manifests, and return the exit code."""
    try:
        place = Place.of(load(ControllerSettings), keda=keda, pod_monitors=pod_monitors)
        models = [model for path in files for model in models_in(path, namespace)]
    except WrongSettings as wrong:
        print("\n".join(wrong.problems), file=sys.stderr)
        return EXIT_WRONG_SETTING
    except Unreadable as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG_FILE
    print(as_yaml([manifest for model in models for manifest in render(model, place)]), end="")
    return 0


def models_in(path: Path, namespace: str) -> Iterator[AIModel]:
    """The AIModels of a file; those that name no namespace are of this one. Raises :class:`Unreadable`."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        documents: list[Any] = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path} cannot be read ({type(error).__name__}).") from None
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"{path} is no YAML: {' '.join(str(error).split())}.") from None
    if not documents:
        raise Unreadable(f"{path} holds no AIModel.")
    for document in documents:
        if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
            raise Unreadable(f"{path}: each document must have apiVersion {API_VERSION} and kind {KIND}.")
        try:
            model = read(document)
            if not document["metadata"].get("namespace"):
                model = msgspec.structs.replace(model, namespace=namespace)
        except WrongModel as wrong:
            raise Unreadable(f"{path}: {wrong}.") from None
        if unknown := _unknown(document["spec"], msgspec.to_builtins(model.spec), "spec"):
            raise Unreadable(f"{path}: AIModel {model.name}: there is no field {unknown}.")
        yield model


def _unknown(given: Any, read_: Any, path: str) -> str | None:
    """The first field that was given and not read; an API server would refuse it, or drop it with a warning."""
    if not isinstance(given, dict) or not isinstance(read_, dict):
        return None
    for name, value in given.items():
        if name not in read_:
            return f"{path}.{name}"
        if (deeper := _unknown(value, read_[name], f"{path}.{name}")) is not None:
            return deeper
    return None


def as_yaml(manifests: list[dict[str, Any]]) -> str:
    """Documents for ``kubectl apply``."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(manifests, Dumper=Plain, sort_keys=False, explicit_start=True, width=120)
