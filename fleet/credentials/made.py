"""What is made: Secrets by their names, and JSON Web Tokens for a Pulsar that has the signing key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

from broker.access import CONTROLLER, GATEWAY, MANAGEMENT, NODE

KEY_BYTES = 32
"""256 bits, as HS256 wants at least."""
ADMIN = "workernode-admin"
"""The broker's superuser."""
SIGNING = "workernode-pulsar-signing"
"""The Secret with the signing key."""
TOKENS = {
    "workernode-pulsar-admin": ADMIN,
    "workernode-pulsar-gateway": GATEWAY,
    "workernode-pulsar-node": NODE,
    "workernode-pulsar-management": MANAGEMENT,
    "workernode-pulsar-controller": CONTROLLER,
}
"""The Secrets of tokens, and whose each is."""
KEYS = "workernode-keys"
"""The Secret with the gateway's first key, as clients show it and as the gateway reads it, and with management's."""


def signing() -> dict[str, bytes]:
    """A new signing key."""
    return {"key": secrets.token_bytes(KEY_BYTES)}


def keys() -> dict[str, bytes]:
    """New keys of the gateway and of management."""
    key = f"sk-{secrets.token_urlsafe(KEY_BYTES)}"
    return {
        "api-key": key.encode(),
        "api-keys": f"first:{key}".encode(),
        "management-key": secrets.token_urlsafe(KEY_BYTES).encode(),
    }


def token(role: str, key: bytes) -> str:
    """A JSON Web Token for ``role``, signed with HS256 (RFC 7515, section 3; RFC 7518, section 3.2)."""
    head, claims = (_base64(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"sub": role}))
    signature = hmac.digest(key, f"{head}.{claims}".encode(), hashlib.sha256)
    return f"{head}.{claims}.{_base64(signature)}"


def secret(name: str, data: dict[str, bytes]) -> dict[str, Any]:
    """The Secret as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "workernode", "app.kubernetes.io/part-of": "workernode"},
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
