"""What the API server takes for an AIModel, and in which words it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kube.api_server import ApiServer, Refused
from tests.kube.models import BASE, LOCAL, REMOTE, STATIC, resource

pytestmark = pytest.mark.kube

KEY = {"name": "provider", "key": "key"}


def declare(server: ApiServer, namespace: str, name: str, spec: dict[str, Any], **more: Any) -> Any:
    """As `kubectl create --validate=strict` would."""
    path = f"{BASE}/{namespace}/aimodels?fieldValidation=Strict"
    return server.ask("POST", path, resource(name, spec, **more))


@pytest.mark.parametrize("spec", [STATIC, REMOTE, LOCAL], ids=lambda spec: str(spec["type"]))
def test_a_small_spec_of_each_type_is_taken_and_has_its_defaults(
    api_server: ApiServer, namespace: str, spec: dict[str, Any]
) -> None:
    made = declare(api_server, namespace, "model", spec)["spec"]
    assert {name: made[name] for name in ("minReplicas", "maxReplicas", "slots", "waitingPerSlot")} == {
        "minReplicas": 0,
        "maxReplicas": 1,
        "slots": 16,
        "waitingPerSlot": 1,
    }
    assert made["gracePeriodSeconds"] == 600
    assert made["topicDeletion"] == "Retain"


def remote(**changed: Any) -> dict[str, Any]:
    return REMOTE | {"remote": REMOTE["remote"] | changed}


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "remote without a provider": (
        "m",
        {"type": "remote", "model": "m"},
        "needs spec.remote with apiURL and apiKeySecret",
    ),
    "remote without a key": (
        "m",
        {"type": "remote", "model": "m", "remote": {"apiURL": "https://a.example/v1"}},
        "spec.remote.apiKeySecret: Required value",
    ),
    "remote without an address": (
        "m",
        {"type": "remote", "model": "m", "remote": {"apiKeySecret": KEY}},
        "spec.remote.apiURL: Required value",
    ),
    "an address without a scheme": (
        "m",
        remote(apiURL="api.example.com"),
        "apiURL must begin with https:// or http://",
    ),
    "an address without a host": ("m", remote(apiURL="https:///v1"), "apiURL must name a host"),
    "an address with port 0": ("m", remote(apiURL="https://a.example:0/v1"), "a port between 1 and 65535"),
    "an address with a large port": ("m", remote(apiURL="https://a.example:65536/v1"), "a port between 1 and 65535"),
    "an address with a space": ("m", remote(apiURL="https://a.example/v 1"), "apiURL must hold no space"),
    "an address with a space of no width": (
        "m",
        remote(apiURL="https://a.example/v1\u200b"),
        "no space or other unseen character",
    ),
    "an upstream name with a space of no width": (
        "m",
        remote(upstreamModel="a\u200bb"),
        "upstreamModel in body should match",
    ),
    "more tokens than a node can tell": (
        "m",
        STATIC | {"contextLength": 10**9 + 1},
        "less than or equal to 1000000000",
    ),
    "a higher limit than a node can tell": (
        "m",
        REMOTE | {"limits": {"tokensPerMinute": 10**9 + 1}},
        "spec.limits.tokensPerMinute in body should be less than or equal to 1000000000",
    ),
    "an address with a fragment": ("m", remote(apiURL="https://a.example/v1#a"), "and no '#'"),
    "a name with a line break": ("m", STATIC | {"model": "a\nb"}, "spec.model in body should match"),
    "a name with a space at its end": ("m", STATIC | {"model": "m "}, "spec.model must not begin or end with a space"),
    "a name of nothing but a wide space": ("m", STATIC | {"model": "\u3000"}, "must not begin or end with a space"),
    "a name of many bytes": ("m", STATIC | {"model": "\u6a21" * 100}, "a model's name has at most 256 bytes"),
    "an alias with a tab": ("m", STATIC | {"aliases": ["a\tb"]}, "should match"),
    "more nodes than a status holds": ("m", STATIC | {"maxReplicas": 201}, "should be less than or equal to 200"),
    "a password in the address": ("m", remote(apiURL="https://u:p@a.example"), "the key belongs in apiKeySecret"),
    "local without a model": ("m", LOCAL | {"local": None}, "needs spec.local with the model's source"),
    "local without resources": ("m", LOCAL | {"resources": None}, "type local needs spec.resources"),
    "local with empty resources": ("m", LOCAL | {"resources": {}}, "type local needs spec.resources"),
    "a command without its engine": (
        "m",
        LOCAL | {"local": {"source": "a", "command": "serve"}},
        "engine command needs spec.local.command",
    ),
    "a provider beside a local model": ("m", LOCAL | {"remote": REMOTE["remote"]}, "no other type takes it"),
    "an answer beside a provider": ("m", REMOTE | {"static": {"answer": "a"}}, "spec.static is for type static"),
    "more at least than at most": (
        "m",
        STATIC | {"minReplicas": 3, "maxReplicas": 2},
        "minReplicas must not be more than maxReplicas",
    ),
    "a long name": ("m" * 41, STATIC, "the name of an AIModel has at most 40 characters"),
    "an unknown type": ("m", STATIC | {"type": "magic"}, 'supported values: "static", "remote", "local"'),
    "no model": ("m", {"type": "static"}, "spec.model: Required value"),
    "a field that is none": ("m", STATIC | {"slotz": 3}, 'unknown field "spec.slotz"'),
    "no slots": ("m", STATIC | {"slots": 0}, "spec.slots in body should be greater than or equal to 1"),
    "more at once than slots": (
        "m",
        STATIC | {"limits": {"concurrency": 17}},
        "limits.concurrency must not be more than slots",
    ),
    "an alias that is the name": ("m", STATIC | {"aliases": ["static"]}, "an alias is another name than spec.model"),
    "a setting of the controller's": (
        "m",
        STATIC | {"env": [{"name": "API_KEY", "value": "s"}]},
        "env must not set what the controller sets",
    ),
    "an empty setting": ("m", STATIC | {"env": [{"name": "A"}]}, "an entry of env has a value or a valueFrom"),
    "a memory that is no quantity": (
        "m",
        LOCAL | {"resources": {"limits": {"memory": "much"}}},
        "spec.resources.limits.memory",
    ),
}


@pytest.mark.parametrize(("name", "spec", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_spec_is_refused_in_words_that_help(
    api_server: ApiServer, namespace: str, name: str, spec: dict[str, Any], words: str
) -> None:
    present = {field: value for field, value in spec.items() if value is not None}
    with pytest.raises(Refused) as refused:
        declare(api_server, namespace, name, present)
    assert refused.value.status in (400, 422)
    assert words in refused.value.message


def change(server: ApiServer, namespace: str, path: str, body: object) -> Any:
    content = "application/merge-patch+json"
    return server.ask("PATCH", f"{BASE}/{namespace}/aimodels/{path}", body, content=content)


def test_the_name_that_clients_ask_for_cannot_be_changed(api_server: ApiServer, namespace: str) -> None:
    declare(api_server, namespace, "model", STATIC)
    with pytest.raises(Refused, match="requests that wait under the old name would be left behind"):
        change(api_server, namespace, "model", {"spec": {"model": "other"}})
    assert change(api_server, namespace, "model", {"spec": {"slots": 3}})["spec"]["slots"] == 3


def test_the_scale_subresource_reads_and_writes_the_number_of_nodes(api_server: ApiServer, namespace: str) -> None:
    declare(api_server, namespace, "model", STATIC, replicas=1, maxReplicas=5)
    status = {"replicas": 2, "selector": "models.workernode.io/aimodel=model"}
    change(api_server, namespace, "model/status", {"status": status})
    scale = change(api_server, namespace, "model/scale", {"spec": {"replicas": 4}})
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == status
    assert api_server.ask("GET", f"{BASE}/{namespace}/aimodels/model")["spec"]["replicas"] == 4


def columns(server: ApiServer, namespace: str) -> dict[str, Any]:
    """What `kubectl get` shows of the only AIModel of a namespace."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = server.ask("GET", f"{BASE}/{namespace}/aimodels", accept=accept)
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


def test_the_list_shows_what_people_ask_first(api_server: ApiServer, namespace: str) -> None:
    declare(api_server, namespace, "model", REMOTE)
    ready = {"type": "Ready", "status": "False", "reason": "RateLimited", "message": "All wait."}
    condition = ready | {"lastTransitionTime": "2030-01-01T00:00:00Z"}
    status = {"desiredNodes": 3, "readyNodes": 2, "waitingRequests": 17, "conditions": [condition]}
    change(api_server, namespace, "model/status", {"status": status})
    shown = columns(api_server, namespace)
    assert list(shown)[:7] == ["Name", "Type", "Model", "Desired", "Ready", "Backlog", "Status"]
    assert list(shown.values())[:7] == ["model", "remote", "org/large", 3, 2, 17, "RateLimited"]
