"""The headers of a request to the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.request import Request

_AZURE = ".openai.azure.com"


def request_headers(request: Request, *, key: str | None, host: str) -> dict[str, str]:
    """Who asks, for what, and with which key. Azure wants the key in a header of its own."""
    headers = {
        "accept": "text/event-stream" if request.stream else "application/json",
        # Bytes are read as they are; what a provider compresses all the same is read in parts of bounded size.
        "accept-encoding": "identity",
        # The id's 128 bits alone, as llama-cpp-python's server refuses what it cannot read as a UUID.
        "x-request-id": request.request_id.removeprefix("req_"),
        "idempotency-key": request.request_id,
    }
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
        if host.endswith(_AZURE):
            headers["api-key"] = key
    return headers
