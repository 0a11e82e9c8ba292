"""The numbers that the model server takes in requests: the least and the greatest, and none beyond."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workernode.local.server.front.asked import Chat, Completion, Embedding, read
from workernode.local.server.front.problem import Problem

LEAST: dict[type[Any], dict[str, Any]] = {
    Chat: {"messages": [{"role": "user", "content": "a"}]},
    Completion: {"prompt": "a"},
    Embedding: {"input": "a"},
}
INT = 2**31 - 1
TEXTS = (Chat, Completion)
BOUNDS: list[tuple[tuple[type[Any], ...], str, tuple[float, float], tuple[float, float]]] = [
    (TEXTS, "n", (1, 128), (0, 129)),
    (TEXTS, "temperature", (0, 2), (-0.001, 2.001)),
    (TEXTS, "top_p", (0, 1), (-0.001, 1.001)),
    (TEXTS, "top_k", (-1, INT), (-2, INT + 1)),
    (TEXTS, "min_p", (0, 1), (-0.001, 1.001)),
    (TEXTS, "presence_penalty", (-2, 2), (-2.001, 2.001)),
    (TEXTS, "frequency_penalty", (-2, 2), (-2.001, 2.001)),
    (TEXTS, "repetition_penalty", (0.001, 10), (0, 10.001)),
    (TEXTS, "seed", (-(2**63), 2**63 - 1), (-(2**63) - 1, 2**63)),
    ((Chat,), "max_tokens", (1, INT), (0, INT + 1)),
    ((Chat,), "max_completion_tokens", (1, INT), (0, INT + 1)),
    ((Chat,), "top_logprobs", (0, 20), (-1, 21)),
    ((Completion,), "max_tokens", (0, INT), (-1, INT + 1)),
    ((Completion,), "best_of", (1, 128), (0, 129)),
    ((Completion,), "logprobs", (0, 20), (-1, 21)),
    ((Embedding,), "dimensions", (1, 65_536), (0, 65_537)),
]


@pytest.mark.parametrize(
    ("kind", "name", "taken", "refused"),
    [(kind, *rest) for kinds, *rest in BOUNDS for kind in kinds],
    ids=lambda value: value.__name__ if isinstance(value, type) else value if isinstance(value, str) else "",
)
def test_a_number_may_be_so_small_and_so_large_and_no_more(
    kind: type[Any], name: str, taken: tuple[float, float], refused: tuple[float, float]
) -> None:
    for value in taken:
        assert getattr(read(json.dumps({**LEAST[kind], name: value}).encode(), kind), name) == value
    wrong: tuple[Any, ...] = (*refused, "1", True)
    for value in wrong:
        with pytest.raises(Problem) as raised:
            read(json.dumps({**LEAST[kind], name: value}).encode(), kind)
        assert raised.value.param == name
    assert getattr(read(json.dumps({**LEAST[kind], name: None}).encode(), kind), name) is None


@pytest.mark.parametrize("value", [-100.5, 100.5, "1", None])
def test_a_bias_has_its_bounds(value: Any) -> None:
    known = read(json.dumps({**LEAST[Completion], "logit_bias": {"5": -100, "6": 100}}).encode(), Completion)
    assert known.logit_bias == {"5": -100.0, "6": 100.0}
    with pytest.raises(Problem) as raised:
        read(json.dumps({**LEAST[Completion], "logit_bias": {"5": value}}).encode(), Completion)
    assert (raised.value.param or "").startswith("logit_bias")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"a"', b"\xff", b'{"a": "\xff"}', b'{"a": ' + b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="The body is no JSON object") as raised:
        read(body, Chat)
    assert raised.value.status == 400
