"""A refusal that names a parameter teaches an adapter: once, with a log line, and for all requests after it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.narrow_provider import NarrowProvider
from tests.remote_engine import Recorder, completion_job, job, started
from workernode.outcome import Answered, Refused
from workernode.remote.allowance import Limits
from workernode.remote.pace import CredentialPace

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.engine import Job

Refusal = tuple[int, Any]
DEVELOPER = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "x"}]


def error(message: str, **others: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **others}}


def has(name: str, refusal: Refusal) -> Callable[[dict[str, Any]], Refusal | None]:
    """Refuses a body with that field."""
    return lambda body: refusal if name in body else None


def developers(body: dict[str, Any]) -> Refusal | None:
    said = "Unexpected role 'developer': expected 'system', 'user', 'assistant' or 'tool'"
    return (400, error(said)) if any(each["role"] == "developer" for each in body["messages"]) else None


def several(body: dict[str, Any]) -> Refusal | None:
    return (400, error("'n' : number must be at most 1")) if body.get("n", 1) != 1 else None


def prompts(body: dict[str, Any]) -> Refusal | None:
    said = "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"
    return (400, error(said)) if isinstance(body["prompt"], list) else None


NEW_NAME = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    param="max_tokens",
    code="unsupported_parameter",
)


BOTH_NAMES = error(
    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
    code="invalid_parameter_combination",
)


def forbidden(name: str) -> Refusal:
    detail = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
    return 422, {"object": "error", "message": {"detail": [detail]}, "type": "invalid_request_error"}


LESSONS = [
    ("max-completion-tokens", has("max_tokens", (400, NEW_NAME)), lambda: job("x", max_tokens=7)),
    (
        "max-completion-tokens",
        lambda body: (400, BOTH_NAMES) if {"max_tokens", "max_completion_tokens"} <= body.keys() else None,
        lambda: job("x", max_tokens=9, max_completion_tokens=7),
    ),
    (
        "max-tokens",
        has("max_completion_tokens", forbidden("max_completion_tokens")),
        lambda: job("x", max_completion_tokens=7),
    ),
    ("no-stream-options", has("stream_options", forbidden("stream_options")), lambda: job("x", stream=True)),
    ("system-role", developers, lambda: job("x", messages=DEVELOPER)),
    ("one-choice", several, lambda: job("x", n=2)),
    ("one-prompt", prompts, lambda: completion_job(["p", "q"])),
]


@pytest.mark.parametrize(("adapter", "refusal", "a_job"), LESSONS, ids=[lesson[0] for lesson in LESSONS])
async def test_a_parameter_that_is_refused_is_adapted_from_then_on(
    adapter: str,
    refusal: Callable[[dict[str, Any]], Refusal | None],
    a_job: Callable[[], Job],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with NarrowProvider(refusal) as provider, started(provider.url) as engine:
        assert isinstance(await engine.answer(a_job(), Recorder()), Answered)
        refused = sum(refusal(body) is not None for body in provider.bodies)
        assert refused == 1
        assert isinstance(await engine.answer(a_job(), Recorder()), Answered)
        assert sum(refusal(body) is not None for body in provider.bodies) == 1
    (line,) = [record.getMessage() for record in caplog.records if "adapter_learned" in record.getMessage()]
    assert f'adapter="{adapter}"' in line


@pytest.mark.parametrize(
    ("refusal", "fields"),
    [
        ((400, error("max_tokens is too large: 99999.", param="max_tokens", code="invalid_value")), {"max_tokens": 9}),
        ((400, error("Invalid 'n': must be between 1 and 8.", param="n")), {"n": 9}),
        ((400, error("Your message says that n must be 1.", param="messages")), {"n": 1}),
        ((500, error("max_tokens is not supported")), {"max_tokens": 9}),
        ((413, error("max_tokens is not supported")), {"max_tokens": 9}),
        ((400, error("The role of the developer is too long.")), {}),
        ((400, error("'max_completion_tokens' is not supported.")), {"max_tokens": 9}),
    ],
)
async def test_a_refusal_for_another_reason_teaches_nothing(refusal: Refusal, fields: dict[str, Any]) -> None:
    async with NarrowProvider(lambda body: refusal) as provider, started(provider.url) as engine:
        await engine.answer(job("x", **fields), Recorder())
    assert all(body == provider.bodies[0] for body in provider.bodies)
    assert len(provider.bodies) == (3 if refusal[0] == 500 else 1)


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ("stream_options x", {"stream": True, "stream_options x": 1}),
        ("max_tokens.x", {"max_tokens": 9, "max_tokens.x": 1}),
        ("n x", {"n": 2, "n x": 1}),
    ],
)
async def test_a_field_that_is_only_named_alike_teaches_nothing(wrong: str, fields: dict[str, Any]) -> None:
    """Or a client could choose how all others are served, and what is known of their usage."""
    refusal = has(wrong, (400, error(f"Unrecognized request argument supplied: {wrong}")))
    async with NarrowProvider(refusal) as provider, started(provider.url) as engine:
        assert isinstance(await engine.answer(job("x", **fields), Recorder()), Refused)
        del fields[wrong]
        assert isinstance(await engine.answer(job("x", **fields), Recorder()), Answered)
    assert fields.items() <= provider.bodies[-1].items()
    assert ("stream_options" in provider.bodies[-1]) is ("stream" in fields)


async def test_what_is_sent_once_more_counts_against_the_limit_once_more() -> None:
    pace = CredentialPace(lambda: "c", "node-1", Limits(6000), clock=lambda: 1000.0, unix_ms=lambda: 0)
    before = pace.rate("requests").available(1000.0)
    refusal = has("max_tokens", (400, NEW_NAME))
    async with NarrowProvider(refusal) as provider, started(provider.url, pace=pace) as engine:
        assert isinstance(await engine.answer(job("x", max_tokens=7), Recorder()), Answered)
    after = pace.rate("requests").available(1000.0)
    assert before is not None
    assert after is not None
    assert before - after == pytest.approx(1)


async def test_a_refusal_that_names_a_condition_is_heeded_for_its_request_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Other requests fulfil another one, and would pay for their prompts once more."""
    caplog.set_level(logging.INFO)

    def greedy(body: dict[str, Any]) -> Refusal | None:
        said = "n must be 1 when using greedy sampling, got 2."
        return (400, error(said)) if body.get("n", 1) != 1 and body.get("temperature") == 0 else None

    async with NarrowProvider(greedy) as provider, started(provider.url) as engine:
        assert isinstance(await engine.answer(job("x", n=2, temperature=0), Recorder()), Answered)
        assert isinstance(await engine.answer(job("x", n=2, temperature=1), Recorder()), Answered)
    assert [body.get("n") for body in provider.bodies] == [2, None, None, 2]
    assert "adapter_learned" not in caplog.text


async def test_an_option_of_a_stream_that_is_not_known_is_the_clients_own() -> None:
    def refusal(body: dict[str, Any]) -> Refusal | None:
        (wrong,) = body["stream_options"].keys() - {"include_usage"} or (None,)
        return None if wrong is None else (400, error(f"Unknown parameter: 'stream_options.{wrong}'."))

    async with NarrowProvider(refusal) as provider, started(provider.url) as engine:
        options = {"include_usage": True, "continuous_usage_stats": True}
        outcome = await engine.answer(job("x", stream=True, stream_options=options), Recorder())
        assert isinstance(outcome, Refused)
        outcome = await engine.answer(job("x", stream=True), Recorder())
    assert isinstance(outcome, Answered)
    assert not outcome.usage.estimated


async def test_a_provider_that_refuses_both_names_of_a_limit_is_not_asked_for_ever() -> None:
    def neither(body: dict[str, Any]) -> Refusal | None:
        name = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), None)
        return None if name is None else (400, error(f"Unsupported parameter: '{name}'", param=name))

    async with NarrowProvider(neither) as provider, started(provider.url) as engine:
        outcome = await engine.answer(job("x", max_tokens=7), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.param == "max_completion_tokens"
    assert len(provider.bodies) == 2
