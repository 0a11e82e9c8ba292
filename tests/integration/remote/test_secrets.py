"""No key and no prompt in what an engine says."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from tests.fake_upstream import Chaos, FakeUpstream
from tests.remote_engine import KEY, Recorder, job
from workernode.outcome import Later

if TYPE_CHECKING:
    import pytest

    from workernode.remote.engine import RemoteEngine


def echoes(words: str) -> list[Chaos | str]:
    """Failures whose bodies repeat ``words``."""
    error = json.dumps({"error": {"message": words, "code": words}}).encode()
    statuses = (200, 400, 401, 403, 404, 429, 500)
    return [Chaos(status=status, body=body) for status in statuses for body in (error, words.encode())]


async def test_the_api_key_is_in_no_outcome_and_no_log_line(
    upstream: FakeUpstream, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    for chaos in ["reset", "html", "error-inside", *echoes(f"the key {KEY} is wrong")]:
        for stream in (False, True):
            upstream.script = [chaos] * 3
            seen.append(repr(await engine.answer(job("r1", stream=stream), Recorder())))
    assert KEY not in "".join(seen)
    assert KEY not in caplog.text
    assert 'action="upstream_retry"' in caplog.text
    assert KEY not in repr(engine)


async def test_the_prompt_is_in_no_log_line_and_in_nothing_that_is_handed_back(
    upstream: FakeUpstream, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for chaos in echoes("you said canary-prompt"):
        upstream.script = [chaos] * 3
        outcome = await engine.answer(job("canary-prompt"), Recorder())
        if isinstance(outcome, Later):
            assert "canary-prompt" not in repr(outcome)
    assert "canary-prompt" not in caplog.text
