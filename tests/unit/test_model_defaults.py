"""What holds where a request to the model server says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model_ready import ready
from workernode.local.server.front.asked import Chat, Message, sampling_of
from workernode.local.server.words import Defaults, Sampling


def settings(defaults: Defaults, **fields: Any) -> Sampling:
    asked = Chat(messages=[Message("user", "a")], **fields)
    known = ready(defaults=defaults)
    return sampling_of(asked, ready=known, prompt_tokens=1, max_tokens=None, top_logprobs=None, grammar=None, seed=None)


def sampling(defaults: Defaults, **fields: Any) -> tuple[float, ...]:
    found = settings(defaults, **fields)
    return found.temperature, found.top_p, found.top_k, found.min_p, found.repetition_penalty


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0.6, 0.9, 20, 0.1, 1.2)),
        ({"temperature": 0.0, "top_k": 0}, (0.0, 0.9, 0, 0.1, 1.2)),
        ({"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}, (0.6, 1.0, 0, 0.0, 1.0)),
    ],
)
def test_a_requests_own_values_win_over_the_models_each_by_itself(
    fields: dict[str, Any], expected: tuple[float, ...]
) -> None:
    assert sampling(Defaults(0.6, 0.9, 20, 0.1, 1.2), **fields) == expected
    assert sampling(Defaults()) == (1.0, 1.0, 0, 0.0, 1.0)


def test_all_that_a_request_says_of_its_tokens_reaches_the_steps() -> None:
    said: dict[str, Any] = {"presence_penalty": 0.5, "frequency_penalty": -0.5, "ignore_eos": True, "seed": -7}
    found = settings(Defaults(), **said)
    assert {name: getattr(found, name) for name in said} == said
    silent = settings(Defaults())
    assert (silent.presence_penalty, silent.frequency_penalty, silent.ignore_eos) == (0.0, 0.0, False)
    seeds = {settings(Defaults()).seed for _ in range(4)}
    assert len(seeds) == 4, "nobody's luck is another one's"
