"""What a node's file system has beside the image, which is read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest, Place

_ETC = "/etc/workernode"
KEY_FILE = f"{_ETC}/provider/key"
TOKEN_FILE = f"{_ETC}/broker/token"
CA_FILE = f"{_ETC}/ca/ca.crt"
CACHE = "/home/workernode/.cache"
"""Where libraries keep what they fetch from the hub."""
_SECRET_MODE = 0o440
_TMP_MAX = "1Gi"


def volumes(model: AIModel, place: Place) -> list[Manifest]:
    """Secrets are files, so that a new key or token is used without a new Pod."""
    spec = model.spec
    found: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": _TMP_MAX}}]
    if spec.remote is not None:
        secret = spec.remote.api_key_secret
        found.append(_secret("provider", secret.name, secret.key, "key"))
    if place.token_secret:
        found.append(_secret("broker", place.token_secret, "token", "token"))
    if place.ca_configmap:
        found.append({"name": "ca", "configMap": {"name": place.ca_configmap}})
    if spec.local is not None:
        cache = spec.local.cache
        claim = {"persistentVolumeClaim": {"claimName": cache.claim_name}} if cache else {"emptyDir": {}}
        found.append({"name": "cache", **claim})
        if _wants_shared_memory(model):
            found.append({"name": "shm", "emptyDir": {"medium": "Memory", **_size(model)}})
    return found


def mounts(model: AIModel, place: Place) -> list[Manifest]:
    """Where they are mounted."""
    found: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    if model.spec.remote is not None:
        found.append({"name": "provider", "mountPath": f"{_ETC}/provider", "readOnly": True})
    if place.token_secret:
        found.append({"name": "broker", "mountPath": f"{_ETC}/broker", "readOnly": True})
    if place.ca_configmap:
        found.append({"name": "ca", "mountPath": f"{_ETC}/ca", "readOnly": True})
    if model.spec.local is not None:
        cache = model.spec.local.cache
        found.append({"name": "cache", "mountPath": CACHE, **({"readOnly": True} if cache and cache.read_only else {})})
        if _wants_shared_memory(model):
            found.append({"name": "shm", "mountPath": "/dev/shm"})
    return found


def _wants_shared_memory(model: AIModel) -> bool:
    """Engines on several GPUs talk through /dev/shm, of which a container has 64 MiB."""
    local = model.spec.local
    return local is not None and (local.gpus > 0 or local.shared_memory is not None)


def _size(model: AIModel) -> Manifest:
    local = model.spec.local
    return {"sizeLimit": str(local.shared_memory)} if local is not None and local.shared_memory is not None else {}


def _secret(name: str, secret: str, key: str, file: str) -> Manifest:
    items = [{"key": key, "path": file}]
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": _SECRET_MODE}}
