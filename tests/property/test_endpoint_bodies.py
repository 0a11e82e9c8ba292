"""Whatever a client sends to an endpoint, reading it ends in what is asked or in an error that is the client's."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import token_check
from gateway.endpoints.endpoint import Asked
from gateway.endpoints.prompts import PROMPTS_MAX, count
from gateway.endpoints.reading import REFUSED_FIELDS
from gateway.endpoints.table import ENDPOINTS
from tests.property.test_chat_bodies import as_json, values
from wire.errors import FleetError, InvalidRequest
from workernode.prompts import prompts_of

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Endpoint

GOOD: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"model": "m", "prompt": "hi"},
    "embeddings": {"model": "m", "input": "hi"},
}
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
every_path = pytest.mark.parametrize(
    ("endpoint", "path"), [(each, path.replace("{model:path}", "a/b")) for each in ENDPOINTS for path in each.paths]
)

tokens = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5)
prompts = st.text(min_size=1) | st.lists(st.text(min_size=1), min_size=1, max_size=5) | tokens | st.lists(
    tokens, min_size=1, max_size=5
)  # fmt: skip


def judged(endpoint: Endpoint, body: bytes, path: str) -> Asked | FleetError:
    outcome = parsed(endpoint, body, path)
    if isinstance(outcome, FleetError):
        assert 400 <= outcome.http_status < 500
        assert len(outcome.message) < 1000
    return outcome


def parsed(endpoint: Endpoint, body: bytes, path: str) -> Asked | FleetError:
    try:
        return endpoint.parse(body, path)
    except FleetError as error:
        return error


@every_path
@given(st.binary(max_size=500))
def test_any_bytes(endpoint: Endpoint, path: str, body: bytes) -> None:
    judged(endpoint, body, path)


@every_path
@given(values)
def test_any_json(endpoint: Endpoint, path: str, value: Any) -> None:
    judged(endpoint, as_json(value), path)


@every_path
@given(st.data())
def test_any_value_in_any_field(endpoint: Endpoint, path: str, data: st.DataObject) -> None:
    fields = st.sampled_from([*next(iter(endpoint.paths.values())).__struct_fields__, *REFUSED_FIELDS, "unknown"])
    changes = data.draw(st.dictionaries(fields, values, max_size=4))
    judged(endpoint, as_json({**GOOD[endpoint.name], **changes}), path)


@every_endpoint
@given(st.text(max_size=100))
def test_what_a_client_wrote_is_not_repeated(endpoint: Endpoint, text: str) -> None:
    marked = f"CANARY{text}CANARY"
    mixed = [1, marked]
    for changes in ({"user": marked * 200}, {"n": marked, "dimensions": marked}, {"prompt": mixed, "input": mixed}):
        error = judged(endpoint, as_json({**GOOD[endpoint.name], **changes}), next(iter(endpoint.paths)))
        if isinstance(error, FleetError):
            assert "CANARY" not in error.message
            assert "CANARY" not in (error.param or "")


@given(prompts)
def test_every_form_of_a_prompt_is_taken_and_counted_alike_by_gateway_and_node(prompt: Any) -> None:
    try:
        body = json.dumps({"model": "m", "prompt": prompt, "input": prompt, "n": 2, "stream": True}).encode()
        body.decode().encode()
    except UnicodeEncodeError:
        return
    for endpoint in ENDPOINTS[1:]:
        asked = judged(endpoint, body, next(iter(endpoint.paths)))
        if isinstance(asked, FleetError):
            assert asked.own_code == "invalid_json"  # a lone surrogate
            return
    assert count(msgspec.Raw(json.dumps(prompt).encode()), "prompt") == len(prompts_of(prompt)) <= PROMPTS_MAX
    single = judged(ENDPOINTS[1], json.dumps({"prompt": prompt, "stream": True}).encode(), "/v1/completions")
    assert isinstance(single, Asked)
    assert single.plain == (len(prompts_of(prompt)) == 1)


@given(values)
def test_prompts_of_any_field_are_found_without_an_error(field: Any) -> None:
    assert all(isinstance(each, str | list) for each in prompts_of(field))


@given(st.binary(max_size=300) | values.map(as_json) | values.map(lambda value: as_json({"prompts": [value]})))
def test_any_token_check(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        for asked in token_check.read(body):
            estimate = token_check.checked(asked, tokens=None, context_length=10)
            assert token_check.checked(asked, tokens=estimate.token_count, context_length=10).fits == estimate.fits


@given(st.text(min_size=1, max_size=100), st.sampled_from(["/v1/chat/completions", "/api/v1/chat/completions"]))
def test_messages_of_one_string_become_a_users_message_in_fastchats_form_alone(text: str, path: str) -> None:
    body = as_json({"model": "m", "messages": text, "mine": [1.50]})
    asked = judged(ENDPOINTS[0], body, path)
    if isinstance(asked, Asked):
        assert path.startswith("/api")
        assert json.loads(asked.body or b"")["messages"] == [{"role": "user", "content": text}]
        assert json.loads(asked.body or b"")["mine"] == [1.5]
