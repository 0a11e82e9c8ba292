"""API_URL in every form that people have it."""

from __future__ import annotations

import pytest

from workernode.remote.url import deployment_url, endpoint_url

CHAT = "chat/completions"


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1//", "https://api.openai.com/v1/chat/completions"),
        (" https://api.openai.com/v1\n", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.perplexity.ai/chat/completions", "https://api.perplexity.ai/chat/completions"),
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        (
            "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://x.openai.azure.com/openai/deployments/a%20b/?api-version=2024-10-21&x=%2F",
            "https://x.openai.azure.com/openai/deployments/a%20b/chat/completions?api-version=2024-10-21&x=%2F",
        ),
        ("https://api.openai.com?x=1", "https://api.openai.com/v1/chat/completions?x=1"),
    ],
)
def test_an_api_url_leads_to_its_endpoint(api_url: str, expected: str) -> None:
    assert endpoint_url(api_url, CHAT) == expected


@pytest.mark.parametrize("given", ["", "/chat/completions", "/completions", "/embeddings/"])
@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
def test_an_api_url_with_one_endpoint_leads_to_the_others_beside_it(given: str, endpoint: str) -> None:
    assert endpoint_url(f"https://host/api/v1{given}?x=1", endpoint) == f"https://host/api/v1/{endpoint}?x=1"


@pytest.mark.parametrize(
    ("api_url", "sentence"),
    [
        ("", "API_URL must begin with http:// or https://."),
        ("api.openai.com/v1", "API_URL must begin with http:// or https://."),
        ("ftp://api.openai.com/v1", "API_URL must begin with http:// or https://."),
        ("file:///etc/passwd", "API_URL must begin with http:// or https://."),
        ("https://user:s3cret@api.openai.com/v1", "API_URL holds a user or password: give the key as API_KEY instead."),
        ("https://s3cret@api.openai.com/v1", "API_URL holds a user or password: give the key as API_KEY instead."),
        ("https:///v1", "API_URL names no host."),
        ("https://:8000/v1", "API_URL names no host."),
        ("https://host:99999/v1", "API_URL has a host or port that cannot be read."),
        ("https://host:s3cret/v1", "API_URL has a host or port that cannot be read."),
        ("https://[::1/v1", "API_URL has a host or port that cannot be read."),
        ("https://host/v1#s3cret", "API_URL has a part after '#', which no server would see."),
        ("https://host/v1\r\nx: s3cret", "API_URL holds a space or a control character."),
    ],
)
def test_an_api_url_that_cannot_be_meant_is_refused_without_repeating_it(api_url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"API_URL") as refusal:
        endpoint_url(api_url, CHAT)
    assert str(refusal.value) == sentence
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        (
            "https://x.openai.azure.com",
            "https://x.openai.azure.com/openai/deployments/a%20b%2Fc/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://x.openai.azure.com/openai/?api-version=2025-01-01-preview",
            "https://x.openai.azure.com/openai/deployments/a%20b%2Fc/chat/completions?api-version=2025-01-01-preview",
        ),
        (
            "https://x.openai.azure.com/openai/deployments/own?api-version=1",
            "https://x.openai.azure.com/openai/deployments/own/chat/completions?api-version=1",
        ),
        ("https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com/openai/v1/chat/completions"),
    ],
)
def test_azures_deployment_is_the_upstreams_model_unless_the_address_names_one(api_url: str, expected: str) -> None:
    assert endpoint_url(deployment_url(api_url, "a b/c"), CHAT) == expected
