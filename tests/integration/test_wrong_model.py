"""A request that comes to a node of another model is refused, told, and never reaches the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from tests.fake_upstream import FakeUpstream
from tests.integration.test_ends import ends, get
from tests.integration.test_main_job import PUBLIC, asked, client_of, known, whole
from wire.topics import Topics

if TYPE_CHECKING:
    from pathlib import Path

    from tests.in_process import InProcessFleet


async def test_a_request_for_another_model_than_the_nodes_is_refused_and_told(
    fleet: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = Topics.requests
    monkeypatch.setattr(Topics, "requests", lambda topics, model: right(topics, fleet.model))
    async with FakeUpstream() as upstream:
        gateway = await fleet.gateway(MODELS="another")
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, fleet.model)
        async with client_of(gateway) as client:
            with pytest.raises(openai.NotFoundError) as refusal:
                await whole(client, "another", "r1")
            assert refusal.value.code == "model_not_found"
            assert refusal.value.param == "model"
            assert upstream.requests == []
            assert await whole(client, fleet.model, "r2 tokens=1") == "r2 t0"
        await ends(management, 2)
        (told,) = (await get(management, "events?type=request.failed"))["data"]
    data = told["event"]["data"]
    assert (data["model"], data["status"], data["error_code"]) == ("another", "refused", "model_not_found")
    assert 'action="wrong_model"' in caplog.text
    assert asked("another", "r1")["messages"][0]["content"] not in caplog.text
