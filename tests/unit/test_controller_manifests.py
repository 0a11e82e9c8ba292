"""What the controller makes of AIModels, as files, and what the clusters of the world make of those."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from controller.aimodel import WrongModel, read
from controller.manifests import Place, render
from controller.manifests.scaling import backlog_threshold
from controller.settings import ControllerSettings
from fleet.render import as_yaml
from process.settings import WrongSettings, load
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from controller.manifests import Manifest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "manifests"
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]

ENVIRON = {
    "PULSAR_URL": "pulsar://pulsar.workernode:6650",
    "PULSAR_ADMIN_URL": "http://pulsar.workernode:8080",
    "IMAGE": "registry.example/workernode:1.2.3",
    "LOCAL_IMAGE": "registry.example/workernode-local:1.2.3",
}
SECURED = ENVIRON | {
    "PULSAR_URL": "pulsar+ssl://proxy.example:6651",
    "PULSAR_ADMIN_URL": "https://proxy.example:8443",
    "PULSAR_TENANT": "models",
    "PULSAR_NAMESPACE_REQUESTS": "requests",
    "PULSAR_NAMESPACE_LINKS": "links",
    "PULSAR_NAMESPACE_RESULTS": "results",
    "NODE_TOKEN_SECRET": "workernode-pulsar-node",
    "NODE_CA_CONFIGMAP": "workernode-pulsar-ca",
    "IMAGE_PULL_SECRET": "registry",
}
REMOTE: dict[str, Any] = {
    "type": "remote",
    "model": "org/Large 1",
    "remote": {
        "apiURL": "https://api.example.com:8443/v1",
        "apiKeySecret": {"name": "provider", "key": "api-key"},
        "upstreamModel": "large-2030-01-01",
        "dialect": "openai",
    },
}
MODELS: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = {
    "static": ({"type": "static", "model": "static"}, ENVIRON, {}),
    "remote": (REMOTE, ENVIRON, {}),
    "remote-with-everything": (
        REMOTE
        | {
            "aliases": ["large"],
            "contextLength": 131072,
            "endpoints": ["chat/completions", "embeddings"],
            "slots": 32,
            "waitingPerSlot": 2,
            "limits": {"requestsPerMinute": 500, "tokensPerMinute": 100000, "concurrency": 30},
            "pricesRef": {"name": "prices", "key": "prices.toml"},
            "minReplicas": 1,
            "maxReplicas": 20,
            "cooldownSeconds": 900,
            "gracePeriodSeconds": 1200,
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
            "env": [
                {"name": "BETWEEN_TOKENS_TIMEOUT_S", "value": "30"},
                {"name": "PULSAR_URL", "value": "pulsar+ssl://nearer.example:6651"},
                {"name": "TOKENIZER", "valueFrom": {"configMapKeyRef": {"name": "tokenizer", "key": "path"}}},
            ],
            "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "image": "registry.example/special:2",
        },
        SECURED,
        {"pod_monitors": True},
    ),
    "remote-without-keda": (REMOTE | {"minReplicas": 2, "maxReplicas": 4}, ENVIRON, {"keda": False}),
    "local": (
        {
            "type": "local",
            "model": "small",
            "local": {
                "engine": "vllm",
                "source": "org/small",
                "gpus": 2,
                "cache": {"claimName": "models"},
                "sharedMemory": "8Gi",
            },
            "resources": {"requests": {"cpu": 4, "memory": "32Gi"}},
            "maxReplicas": 3,
        },
        ENVIRON,
        {},
    ),
}


def manifests(name: str) -> list[Manifest]:
    """What is made of one of the models above, in a cluster."""
    spec, environ, offers = MODELS[name]
    resource = {"metadata": {"name": name, "namespace": "models", "uid": "0-0-0-0", "generation": 1}, "spec": spec}
    place = Place.of(load(ControllerSettings, environ), **{"keda": True, "pod_monitors": False, **offers})
    return render(read(resource), place)


def files() -> dict[str, str]:
    """All golden files by their names."""
    return {f"{name}.yaml": as_yaml(manifests(name)) for name in MODELS}


def test_the_manifests_are_those_that_are_kept() -> None:
    assert {path.name: path.read_text() for path in GOLDEN.iterdir()} == files(), "run python -m tests.golden"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_of_a_core_kind_is_strictly_valid(version: str) -> None:
    for name in MODELS:
        for manifest in manifests(name):
            if not re.match(r"keda\.sh|monitoring\.", manifest["apiVersion"]):
                kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("setting", ["WATCH_NAMESPACE", "LEASE_NAMESPACE", "LEASE_NAME", "NODE_TOKEN_SECRET"])
@pytest.mark.parametrize("value", ["one,other", "*", "Models"])
def test_what_can_be_no_name_in_kubernetes_is_a_wrong_setting(setting: str, value: str) -> None:
    """An API server says of a namespace that cannot be that it holds nothing."""
    with pytest.raises(WrongSettings, match=f"{setting}: it can be no name in Kubernetes"):
        load(ControllerSettings, ENVIRON | {setting: value})


def _pod(name: str) -> dict[str, Any]:
    deployment = next(each for each in manifests(name) if each["kind"] == "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def _env(name: str) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "from") for entry in _pod(name)["containers"][0]["env"]}


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_of_a_node_is_one_that_docs_settings_md_has(name: str) -> None:
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    assert set(_env(name)) <= known


@pytest.mark.parametrize("name", MODELS)
def test_a_node_can_read_the_settings_it_is_given(name: str, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.write_text("secret")
    env = {
        variable: str(mounted) if value.startswith("/etc/workernode/") else value
        for variable, value in _env(name).items()
        if value != "from"
    }
    if "KUBERNETES_SERVICE_HOST" in (ROOT / "docs/settings.md").read_text():
        env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    settings = load(NodeSettings, env)
    assert settings.aimodel_name == name
    assert settings.aimodel_namespace == "models"
    assert settings.max_process_num == MODELS[name][0].get("slots", 16)


def test_kubectl_explains_each_field() -> None:
    def unexplained(schema: dict[str, Any], path: str) -> list[str]:
        inner = schema.get("items", schema).get("properties", {})
        here = [] if schema.get("description") else [path]
        return here + [each for name in inner for each in unexplained(inner[name], f"{path}.{name}")]

    fields = yaml.safe_load((ROOT / "deploy" / "k8s" / "crd.yaml").read_text())["spec"]["versions"][0]["schema"]
    own = {name: fields["openAPIV3Schema"]["properties"][name] for name in ("spec", "status")}
    assert [path for name, schema in own.items() for path in unexplained(schema, name)] == []


def _largest(schema: dict[str, Any]) -> dict[str, Any]:
    """Every number at its bound."""
    found: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        if field.get("type") == "integer":
            found[name] = field["maximum"]
        elif "properties" in field and (inner := _largest(field)):
            found[name] = inner
    return found


@pytest.mark.parametrize("name", ["remote", "local"])
def test_a_node_can_read_the_largest_numbers_that_the_api_server_takes(name: str) -> None:
    crd = yaml.safe_load((ROOT / "deploy" / "k8s" / "crd.yaml").read_text())
    largest = _largest(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    spec, _, _ = MODELS[name]
    of_type = {name: spec[name] | largest.pop("local")} if name == "local" else {}
    made = _deployment(spec | {**largest, "local": None} | of_type)
    env = {each["name"]: each.get("value", "") for each in made["spec"]["template"]["spec"]["containers"][0]["env"]}
    given = {variable: value for variable, value in env.items() if not variable.endswith("_FILE")}
    settings = load(NodeSettings, given | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert (settings.context_length, settings.tpm_max) == (10**9, 10**9)
    assert settings.concurrency_max == settings.max_process_num == 4096


@pytest.mark.parametrize("name", MODELS)
def test_a_node_has_longer_to_leave_than_its_answers_have_to_finish(name: str) -> None:
    pod = _pod(name)
    assert 0 < float(_env(name)["DRAIN_S"]) < pod["terminationGracePeriodSeconds"]


def test_no_secret_stands_in_a_manifest() -> None:
    env = _env("remote-with-everything")
    assert env["API_KEY_FILE"].startswith("/etc/workernode/")
    assert env["PULSAR_TOKEN_FILE"].startswith("/etc/workernode/")
    assert not {"API_KEY", "PULSAR_TOKEN"} & set(env)


def _scaled(**spec: Any) -> dict[str, Any]:
    return {**MODELS["static"][0], "slots": 4, "waitingPerSlot": 2, "maxReplicas": 9, **spec}


@pytest.mark.parametrize(("ceiling", "least", "most"), [(None, 0, 9), (3, 0, 3), (0, 0, 1), (1, 2, 2), (50, 0, 9)])
def test_a_ceiling_keeps_keda_from_going_up_and_never_below_the_least(
    ceiling: int | None, least: int, most: int
) -> None:
    model = read({"metadata": {"name": "m"}, "spec": _scaled(minReplicas=least)})
    place = Place.of(load(ControllerSettings, ENVIRON), keda=True, pod_monitors=False, ceiling=ceiling)
    scaled = next(each for each in render(model, place) if each["kind"] == "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (least, most)
    assert backlog_threshold(model) == 12
    assert scaled["triggers"][0]["metadata"]["msgBacklogThreshold"] == "12"


def test_a_long_cooldown_asks_for_no_longer_window_than_an_autoscaler_takes() -> None:
    model = read({"metadata": {"name": "m"}, "spec": _scaled(cooldownSeconds=86400)})
    place = Place.of(load(ControllerSettings, ENVIRON), keda=True, pod_monitors=False)
    scaled = next(each for each in render(model, place) if each["kind"] == "ScaledObject")["spec"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (scaled["cooldownPeriod"], behavior["scaleDown"]) == (86400, {"stabilizationWindowSeconds": 3600})


def test_keda_shows_a_token_only_where_there_is_one() -> None:
    kinds = [each["kind"] for each in manifests("remote")]
    assert "TriggerAuthentication" not in kinds
    secured = {each["kind"]: each["spec"] for each in manifests("remote-with-everything") if "spec" in each}
    assert secured["ScaledObject"]["triggers"][0]["metadata"]["authModes"] == "bearer"
    assert secured["TriggerAuthentication"]["secretTargetRef"][0]["name"] == "workernode-pulsar-node"


def test_without_keda_the_number_of_nodes_is_fixed_and_never_none_by_itself() -> None:
    def replicas(**spec: Any) -> int:
        return read({"metadata": {"name": "m"}, "spec": _scaled(**spec)}).spec.fixed_replicas

    assert replicas() == 1
    assert replicas(minReplicas=3) == 3
    assert replicas(replicas=0) == 0
    assert replicas(replicas=20) == 9


def _deployment(spec: dict[str, Any]) -> Any:
    place = Place.of(load(ControllerSettings, ENVIRON), keda=False, pod_monitors=False)
    made = render(read({"metadata": {"name": "m"}, "spec": spec}), place)
    return next(each for each in made if each["kind"] == "Deployment")


def test_a_value_with_a_dollar_reaches_the_node_as_it_is() -> None:
    """The kubelet reads $(NAME) and $$ of every value that it is given."""
    own = [{"name": "THEIRS", "value": "$(MODEL_NAME)"}]
    spec = {"type": "static", "model": "m", "static": {"answer": "$$5 $(MODEL_NAME)"}, "env": own}
    made = _deployment(spec)
    env = {each["name"]: each.get("value") for each in made["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["STATIC_ANSWER"] == "$$$$5 $$(MODEL_NAME)"
    assert env["THEIRS"] == "$(MODEL_NAME)"


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        ("http://user:password@proxy:3128", {3128}),
        ("http://collector", {80}),
        ("https://hub.example/path?of=a,b", set()),  # 443 is open
        ("pulsar://a:7650,b:7651,c", {7650, 7651}),
        ("pulsar+ssl://a:7651,b/", {7651, 6651}),
        ("http://proxy:none", set()),
        ("http://[proxy", set()),
        ("30", set()),
        ("", set()),
    ],
)
def test_the_network_policy_lets_a_node_reach_what_its_own_env_names(value: str, ports: set[int]) -> None:
    spec = {"type": "static", "model": "m", "static": {"answer": "a"}}
    assert _ports(spec | {"env": [{"name": "THEIRS", "value": value}]}) - _ports(spec) == ports


def _ports(spec: dict[str, Any]) -> set[int]:
    place = Place.of(load(ControllerSettings, ENVIRON), keda=False, pod_monitors=False)
    made = render(read({"metadata": {"name": "m"}, "spec": spec}), place)
    policy = next(each for each in made if each["kind"] == "NetworkPolicy")
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


@pytest.mark.parametrize(("gpus", "seconds"), [(0, 300 + 60), (1, 300 + 60 + 3600)])
def test_a_rollout_waits_for_the_node_whose_gpus_it_needs(gpus: int, seconds: int) -> None:
    local = {"source": "a", "gpus": gpus, "loadSeconds": 60}
    limits = {"limits": {"memory": "1Gi"}}
    spec = {"type": "local", "model": "m", "local": local, "resources": limits, "gracePeriodSeconds": 3600}
    made = _deployment(spec)
    assert made["spec"]["progressDeadlineSeconds"] == seconds


def test_a_model_without_a_claim_is_kept_on_the_nodes_disk_and_shares_memory_if_it_is_said() -> None:
    def kept(**local: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Volumes and mounts by their names."""
        spec = {"type": "local", "model": "m", "local": {"source": "a"} | local, "resources": {"limits": {"cpu": 1}}}
        pod = _deployment(spec)["spec"]["template"]["spec"]
        volumes = {each.pop("name"): each for each in pod["volumes"]}
        return volumes, {each.pop("name"): each for each in pod["containers"][0]["volumeMounts"]}

    volumes, mounts = kept(sharedMemory="1Gi")
    assert volumes["cache"] == {"emptyDir": {}}
    assert volumes["shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert mounts["shm"] == {"mountPath": "/dev/shm"}
    volumes, mounts = kept(cache={"claimName": "models", "readOnly": True})
    assert volumes["cache"] == {"persistentVolumeClaim": {"claimName": "models"}}
    assert mounts["cache"]["readOnly"]
    assert "shm" not in volumes


def test_the_golden_files_are_yaml_that_says_the_same() -> None:
    for name, text in files().items():
        assert list(yaml.safe_load_all(text)) == manifests(name.removesuffix(".yaml"))


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("m" * 41, {"type": "static", "model": "m"}, "1 to 40 characters"),
        ("m", {"type": "remote", "model": "m"}, "belong together"),
        ("m", {"type": "static", "model": "m", "minReplicas": 2}, "minReplicas must not be more"),
        ("m", {"type": "magic", "model": "m"}, "AIModel m: Invalid enum value 'magic'"),
        ("m", {"type": "static", "model": "a\nb"}, "must not contain control characters. It is 'a\\nb'."),
        ("m", {"type": "static", "model": "m", "aliases": ["a\tb"]}, "must not contain control characters"),
        ("m", {"type": "static", "model": "\u6a21" * 100}, "this one has 300"),
        ("m", {"type": "static", "model": " m"}, "spec.model must not begin or end with a space"),
        ("m", REMOTE | {"remote": REMOTE["remote"] | {"apiURL": "https://a:0"}}, "spec.remote.apiURL is no address"),
        ("m", None, "AIModel m: Expected `object`, got `null`"),
    ],
)
def test_what_no_api_server_has_seen_is_checked_too(name: str, spec: Any, words: str) -> None:
    with pytest.raises(WrongModel, match=re.escape(words)):
        read({"metadata": {"name": name}, "spec": spec})
