"""Which dialect a provider speaks, and what its adapters do to a request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from wire.request import Request
from workernode.remote.body import as_body, upstream_fields
from workernode.remote.dialects.dialect import DIALECTS, Adapter, dialect_at, dialect_named

PAGE = Path(__file__).parents[2] / "docs" / "remote-node.md"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("x.openai.azure.com", "azure"),
        ("x.services.ai.azure.com", "azure"),
        ("openai.azure.com.example.org", "openai"),
        ("api.deepseek.com", "deepseek"),
        ("openrouter.ai", "openrouter"),
        ("api.mistral.ai", "mistral"),
        ("api.groq.com", "groq"),
        ("notapi.groq.com", "openai"),
        ("localhost", "openai"),
    ],
)
def test_a_providers_host_tells_its_dialect(host: str, name: str) -> None:
    assert dialect_at(host).name == name


def test_a_dialect_may_be_named_with_more_adapters_or_made_of_them_alone() -> None:
    assert dialect_named("") is dialect_named(" , ") is None
    vllm = dialect_named("vllm")
    assert vllm is not None
    assert vllm.adapters == {"system-role"}
    more = dialect_named(" vllm , one-choice,cumulative")
    assert more is not None
    assert more.name == "vllm"
    assert more.adapters == {"system-role", "one-choice", "cumulative"}
    own = dialect_named("max-tokens")
    assert own is not None
    assert own.adapters == {"max-tokens"}


@pytest.mark.parametrize("words", ["klingon", "openai,klingon", "one-choice,vllm"])
def test_an_unknown_dialect_is_refused_with_those_there_are(words: str) -> None:
    with pytest.raises(ValueError, match=r"is no dialect \(openai, .*\) and no adapter \(max-tokens, .*\)"):
        dialect_named(words)


def test_the_page_tells_every_dialect_and_every_adapter() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = {
        match[1]: set(re.findall(r"`([a-z-]+)`", match[2])) for match in re.finditer(r"^\| `(\S+)` \|(.*)$", page, re.M)
    }
    for dialect in DIALECTS:
        assert told[dialect.name] & set(get_args(Adapter)) == dialect.adapters, dialect.name
    assert set(get_args(Adapter)) <= set(told)


def test_the_page_tells_the_hosts_of_every_dialect() -> None:
    _, _, table = PAGE.read_text(encoding="utf-8").partition("| dialect | adapters | chosen for |\n")
    rows = re.findall(r"^\| `(\S+)` \|.*\| (.*) \|$", table.partition("\n\n")[0], re.M)
    told = {name: set(re.findall(r"`\*?([a-z.]+)`", hosts)) for name, hosts in rows}
    assert told.pop(DIALECTS[0].name) == {"api.openai.com"}
    assert told == {dialect.name: set(dialect.hosts) for dialect in DIALECTS[1:]}
    for dialect in DIALECTS:
        for host in dialect.hosts:
            assert dialect_at(f"ours{host}" if host.startswith(".") else host) is dialect


def sent(fields: dict[str, Any], *adapters: Adapter, endpoint: Any = "chat/completions", stream: bool = False) -> Any:
    """The fields that reach the provider, without the model."""
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint=endpoint,
        body=json.dumps(fields).encode(),
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
    )
    body = json.loads(as_body(upstream_fields(request, model="m", adapters=frozenset(adapters))))
    del body["model"]
    return body


@pytest.mark.parametrize(
    ("adapter", "fields", "expected"),
    [
        ("max-tokens", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("max-tokens", {"max_completion_tokens": None, "max_tokens": 9}, {"max_tokens": 9}),
        ("max-tokens", {"max_tokens": 9}, {"max_tokens": 9}),
        ("max-completion-tokens", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("max-completion-tokens", {"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ("random-seed", {"seed": 3}, {"random_seed": 3}),
        ("random-seed", {"seed": None}, {}),
        (
            "system-role",
            {"messages": [{"role": "developer", "content": "developer"}, {"content": [1.0], "role": "user"}]},
            {"messages": [{"role": "system", "content": "developer"}, {"content": [1.0], "role": "user"}]},
        ),
        ("system-role", {"messages": [{"role": "user", "content": '"developer"'}]}, None),
        ("system-role", {"messages": "developer"}, None),
        ("system-role", {}, None),
    ],
)
def test_an_adapter_renames_what_its_provider_calls_otherwise(
    adapter: Adapter, fields: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert sent(fields, adapter) == (fields if expected is None else expected)
    assert sent(fields) == fields


@pytest.mark.parametrize(
    ("adapters", "expected"),
    [
        # Whichever it knows.
        ((), {"max_completion_tokens": 5, "max_tokens": 5}),
        (("max-tokens",), {"max_tokens": 5}),
        (("max-completion-tokens",), {"max_completion_tokens": 5}),
    ],
)
def test_of_two_limits_the_one_that_was_reserved_for_counts(adapters: tuple[Adapter, ...], expected: Any) -> None:
    assert sent({"max_completion_tokens": 5, "max_tokens": 9}, *adapters) == expected


def test_a_completions_limit_has_one_name_everywhere() -> None:
    fields = {"prompt": "x", "max_tokens": 9}
    assert sent(fields, "max-completion-tokens", endpoint="completions") == fields


def test_what_no_adapter_concerns_stays_byte_for_byte() -> None:
    messages = b'[ {"role":"developer","content":"\\u00fc","x":1.0e0}, {"role": "user", "content":"a"} ]'
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=b'{"messages":' + messages + b',"y":1E400}',
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
    )
    body = as_body(upstream_fields(request, model="m", adapters={"system-role"}))
    assert b'"content":"\\u00fc","x":1.0e0' in body
    assert b'"y":1E400' in body


def test_a_provider_that_knows_no_stream_options_gets_none() -> None:
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    assert sent(fields, "no-stream-options", stream=True) == {"stream": True}
    assert sent({"stream": True}, stream=True) == fields
