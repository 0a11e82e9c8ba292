"""From ``API_URL`` to the address of an endpoint."""

from __future__ import annotations

from typing import get_args
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from wire.request import Endpoint

# The longer name first: one ends with the other.
_NAMES = sorted(get_args(Endpoint), key=len, reverse=True)


AZURE_API_VERSION = "2024-10-21"
"""Of the deployments' API, where ``API_URL`` names none: the latest that is no preview."""


def deployment_url(api_url: str, deployment: str) -> str:
    """Azure's address of a deployment, below a bare host (or ``/openai``); any other ``API_URL`` as it is."""
    parts = _checked(api_url.strip())
    if parts.path.strip("/") not in ("", "openai"):
        return api_url
    path = f"/openai/deployments/{quote(deployment, safe='')}"
    query = parts.query if "api-version=" in parts.query else f"api-version={AZURE_API_VERSION}"
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def endpoint_url(api_url: str, endpoint: str) -> str:
    """The address of ``endpoint`` (``chat/completions``) below ``api_url``.

    A bare host gets ``/v1``. A path is taken as the provider's own prefix (``/v1``, ``/api/v1``,
    ``/openai/deployments/x``), and one that ends with an endpoint as that one's, beside which the others are. A query
    is kept: Azure wants ``?api-version=…``. Raises :class:`ValueError` with a sentence that repeats no part of the
    URL, as it may hold a secret.
    """
    parts = _checked(api_url.strip())
    path = parts.path.rstrip("/")
    if not path:
        path = "/v1"
    given = next((name for name in _NAMES if path.endswith(f"/{name}")), None)
    if given is not None:
        path = path.removesuffix(f"/{given}")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/{endpoint}", parts.query, ""))


def check_proxy(url: str) -> None:
    """Raises :class:`ValueError`, with a sentence that repeats no part of it, unless it is an HTTP proxy's address."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("it has a host or port that cannot be read") from None
    if parts.scheme != "http" or not host or not url.isprintable() or " " in url:
        raise ValueError("it must be http://host:port")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it must end with the port")


def _checked(api_url: str) -> SplitResult:
    if not api_url.isprintable() or " " in api_url:
        raise ValueError("API_URL holds a space or a control character.")
    try:
        parts = urlsplit(api_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("API_URL has a host or port that cannot be read.") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("API_URL must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise ValueError("API_URL holds a user or password: give the key as API_KEY instead.")
    if not host:
        raise ValueError("API_URL names no host.")
    if parts.fragment:
        raise ValueError("API_URL has a part after '#', which no server would see.")
    return parts
