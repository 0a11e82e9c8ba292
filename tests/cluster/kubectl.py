"""The cluster that ``kubectl`` reaches."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.5
T = TypeVar("T")


class KubectlFailed(Exception):
    """Its words."""


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What it prints. Raises :class:`KubectlFailed`."""
    ran = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise KubectlFailed(f"kubectl {' '.join(arguments)}: {ran.stderr.strip()}")
    return ran.stdout


def read(*arguments: str) -> Any:
    """``kubectl get``: an object, or a list's items."""
    found = json.loads(kubectl("get", *arguments, "--output", "json"))
    return found["items"] if found["kind"] == "List" else found


def apply(*manifests: dict[str, Any]) -> None:
    """Have these objects."""
    kubectl("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def until(look: Callable[[], T], what: str, within_s: float = 120.0) -> T:
    """What it gives as soon as that is true. Raises :class:`KubectlFailed`."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise KubectlFailed(f"Not within {within_s:g} s: {what}.")
        time.sleep(LOOK_S)
    return found
