"""A provider over real HTTP, and an engine that asks it without waiting between tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fake_upstream import FakeUpstream
from tests.remote_engine import KEY, Waits, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workernode.remote.engine import RemoteEngine


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(api_key=KEY) as running:
        yield running


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def engine(upstream: FakeUpstream, waits: Waits) -> AsyncIterator[RemoteEngine]:
    async with started(
        upstream.url, waits, first_token_timeout_s=5.0, between_tokens_timeout_s=5.0, answer_bytes_max=2**26
    ) as running:
        yield running
