"""The headers of a request to the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from wire.request import Request
    from workernode.remote.dialects.dialect import Adapter

VIA = "x-workernode-via"
"""The nodes that a request has come through, the latest last: how a gateway knows one that comes round."""
TIME_LEFT = "x-request-timeout-ms"


def request_headers(
    request: Request, *, first: int, key: str | None, adapters: Set[Adapter], via: Sequence[str], remaining_s: float
) -> dict[str, str]:
    """Who asks, for what, and with which key. ``first`` is the index of the first choice that this call asks for."""
    headers = {
        "accept": "text/event-stream" if request.stream else "application/json",
        # Bytes are read as they are; what a provider compresses all the same is read in parts of bounded size.
        "accept-encoding": "identity",
        # The id's 128 bits alone, as llama-cpp-python's server refuses what it cannot read as a UUID.
        "x-request-id": request.request_id.removeprefix("req_"),
        # Calls of one request ask for the same and want an answer each.
        "idempotency-key": f"{request.request_id}-{first}" if first else request.request_id,
        VIA: ",".join(via),
    }
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
        if "api-key-header" in adapters:
            headers["api-key"] = key
    if "time-left" in adapters:
        headers[TIME_LEFT] = str(max(1, int(remaining_s * 1000)))
    return headers
