"""AIModels for tests."""

from __future__ import annotations

import copy
from typing import Any

BASE = "/apis/models.workernode.io/v1alpha1/namespaces"

STATIC: dict[str, Any] = {"type": "static", "model": "static"}
REMOTE: dict[str, Any] = {
    "type": "remote",
    "model": "org/large",
    "remote": {"apiURL": "https://api.example.com/v1", "apiKeySecret": {"name": "provider", "key": "key"}},
}
LOCAL: dict[str, Any] = {
    "type": "local",
    "model": "small",
    "local": {"source": "org/small"},
    "resources": {"requests": {"cpu": "2", "memory": "8Gi"}},
}


def resource(name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An AIModel with this spec, and more in it."""
    return {
        "apiVersion": "models.workernode.io/v1alpha1",
        "kind": "AIModel",
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec) | more,
    }
