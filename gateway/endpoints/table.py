"""The endpoints whose requests go to nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.endpoints.chat import ChatCompletions
from gateway.endpoints.completions import Completions
from gateway.endpoints.embeddings import Embeddings

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (ChatCompletions(), Completions(), Embeddings())
