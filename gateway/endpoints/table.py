"""The endpoints whose requests go to nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.endpoints.chat import ChatCompletions

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (ChatCompletions(),)
