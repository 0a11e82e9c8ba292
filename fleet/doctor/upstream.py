"""The provider of a remote node: reachable, key accepted, model known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from fleet.doctor.asking import Reply, Unanswered, ask, clock_finding
from fleet.doctor.finding import Finding, fail, ok, warn
from workernode.remote.dialects.dialect import dialect_at, dialect_named
from workernode.remote.url import deployment_url, endpoint_url

if TYPE_CHECKING:
    from workernode.settings import NodeSettings

_NAME = "upstream"
_CHAT = "/chat/completions"
_DEPLOYMENT = re.compile(r"/deployments/[^/]+$")


async def check_upstream(settings: NodeSettings) -> list[Finding]:
    """Ask the provider for its models, which costs nothing."""
    model = settings.upstream_model or settings.model_name
    host = urlsplit(endpoint_url(settings.api_url, _CHAT[1:])).hostname or ""
    dialect = dialect_named(settings.dialect) or dialect_at(host)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if key and "api-key-header" in dialect.adapters:
        headers["api-key"] = key
    azure = "deployments" in dialect.adapters
    proxy = settings.api_proxy.get_secret_value() if settings.api_proxy else None
    try:
        url = models_url(deployment_url(settings.api_url, model) if azure else settings.api_url)
        reply = await ask(url, headers, proxy=proxy)
    except Unanswered as why:
        way = "API_PROXY" if proxy else "the way out of this network: API_PROXY where a proxy is the only one"
        return [fail(_NAME, f"The provider cannot be reached: {why}.", f"Check API_URL, and {way}.")]
    found = _judge(reply, model)
    if (clock := clock_finding("upstream clock", reply)) is not None:
        found.append(clock)
    return found


def models_url(api_url: str) -> str:
    """The address of the provider's list of models, beside its chat completions; Azure's beside its deployments."""
    parts = urlsplit(endpoint_url(api_url, _CHAT[1:]))
    path = _DEPLOYMENT.sub("", parts.path.removesuffix(_CHAT))
    return urlunsplit(parts._replace(path=f"{path}/models"))


def _judge(reply: Reply, model: str) -> list[Finding]:
    if reply.status in (401, 403):
        return [fail(_NAME, f"The provider does not accept the key (status {reply.status}).", "Check API_KEY.")]
    if reply.status == 404:
        sentence = "The provider answers, but has no list of models: whether the key is accepted cannot be told."
        return [
            warn(_NAME, sentence, "Check that API_URL ends where the provider's documentation says; send a request.")
        ]
    if reply.status == 429:
        return [warn(_NAME, "The provider answers, and limits this key at the moment.", "Wait, or check its quota.")]
    names = _names(reply.json)
    if reply.status != 200 or names is None:
        sentence = f"The provider answered {reply.status}, and not with a list of models."
        return [warn(_NAME, sentence, "Check API_URL: perhaps something else answers there.")]
    found = [ok(_NAME, "The provider answers and accepts the key.")]
    if model in names:
        return [*found, ok("upstream model", f"The provider knows the model {model!r}.")]
    # Some providers list only a part of what they serve, so this stops nobody.
    sentence = f"The provider does not list the model {model!r}."
    return [*found, warn("upstream model", sentence, "Check UPSTREAM_MODEL, or MODEL_NAME where that is not set.")]


def _names(listed: object) -> set[str] | None:
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list):
        return None
    return {each["id"] for each in data if isinstance(each, dict) and isinstance(each.get("id"), str)}
