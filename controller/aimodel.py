"""What an AIModel says, as deploy/k8s/crd.yaml has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from wire.errors import InvalidName
from wire.topics import segment

GROUP = "models.workernode.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "AIModel"
FINALIZER = f"{GROUP}/drain"
NAME_CHARS_MAX = 40

Quantity = int | str
NODES_MAX = 200
"""Of one AIModel, for each shows itself in its status: at 150 an entry takes the API server 0.1 s."""
Count = Annotated[int, Meta(ge=0, le=1000)]
Nodes = Annotated[int, Meta(ge=0, le=NODES_MAX)]


class SecretKey(msgspec.Struct, frozen=True):
    """One entry of a Secret or a ConfigMap in the AIModel's namespace."""

    name: str
    key: str


class Static(msgspec.Struct, frozen=True):
    """A fixed answer."""

    answer: str | None = None


class Remote(msgspec.Struct, frozen=True, rename="camel"):
    """A provider."""

    api_url: str = msgspec.field(name="apiURL")
    api_key_secret: SecretKey
    upstream_model: str | None = None
    dialect: str | None = None


class Cache(msgspec.Struct, frozen=True, rename="camel"):
    """A volume with models from the hub."""

    claim_name: str
    read_only: bool = False


class Local(msgspec.Struct, frozen=True, rename="camel"):
    """An engine on the node."""

    source: str
    engine: Literal["transformers", "llamafile", "llama-server", "vllm", "command"] = "transformers"
    command: str | None = None
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    gpu_resource: str = "nvidia.com/gpu"
    cache: Cache | None = None
    shared_memory: Quantity | None = None
    load_seconds: int = 1800


class Resources(msgspec.Struct, frozen=True):
    """As in a container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """What a provider allows to the key."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class Setting(TypedDict, total=False):
    """As an environment variable of a container."""

    name: Required[str]
    value: str
    valueFrom: dict[str, Any]


class Spec(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is wished for. Defaults are those of the CRD, for files that no API server has seen."""

    type: Literal["static", "remote", "local"]
    model: Annotated[str, Meta(min_length=1, max_length=255)]
    aliases: tuple[str, ...] = ()
    owned_by: str | None = None
    description: str | None = None
    context_length: int | None = None
    endpoints: tuple[str, ...] = ()
    static: Static | None = None
    remote: Remote | None = None
    local: Local | None = None
    resources: Resources | None = None
    slots: Annotated[int, Meta(ge=1, le=4096)] = 16
    waiting_per_slot: Count = 1
    limits: Limits = Limits()
    prices_ref: SecretKey | None = None
    min_replicas: Nodes = 0
    max_replicas: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1
    replicas: Nodes | None = None
    cooldown_seconds: int = 300
    grace_period_seconds: Annotated[int, Meta(ge=10)] = 600
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    env: list[Setting] = []
    image: str | None = None
    topic_deletion: Literal["Retain", "Delete"] = "Retain"

    @property
    def fixed_replicas(self) -> int:
        """How many nodes there are where nothing counts the queue: one at least, unless somebody asked for none."""
        wished = max(1, self.min_replicas) if self.replicas is None else self.replicas
        return min(max(wished, self.min_replicas), self.max_replicas)


class AIModel(msgspec.Struct, frozen=True):
    """One resource. ``uid`` is empty for one that is in no cluster."""

    name: str
    namespace: str
    spec: Spec
    uid: str = ""
    generation: int = 0

    @property
    def object_name(self) -> str:
        """What its objects are called."""
        return f"aimodel-{self.name}"


class WrongModel(Exception):
    """What is wrong with an AIModel, in a sentence."""


def read(resource: dict[str, Any]) -> AIModel:
    """The AIModel in a resource. Raises :class:`WrongModel`; what only CEL can tell is the API server's to refuse."""
    metadata = resource.get("metadata") or {}
    name = metadata.get("name") or ""
    try:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX:
            raise WrongModel(f"the name of an AIModel has 1 to {NAME_CHARS_MAX} characters")
        spec = msgspec.convert(resource.get("spec"), Spec)
    except msgspec.ValidationError as error:
        raise WrongModel(f"AIModel {name}: {error}") from None
    for part in ("remote", "local"):
        if (getattr(spec, part) is not None) != (spec.type == part):
            raise WrongModel(f"AIModel {name}: type {part} and spec.{part} belong together")
    if spec.remote is not None and not _is_address(spec.remote.api_url):
        raise WrongModel(
            f"AIModel {name}: spec.remote.apiURL is no address of http or https with a host and, perhaps, a port"
        )
    if spec.model != spec.model.strip():  # its nodes read the name as a setting, which has no spaces around it
        raise WrongModel(f"AIModel {name}: spec.model must not begin or end with a space")
    for each in (spec.model, *spec.aliases):
        try:
            segment(each)
        except InvalidName as error:
            raise WrongModel(f"AIModel {name}: {error.message} It is {each!r}.") from None
    if spec.min_replicas > spec.max_replicas:
        raise WrongModel(f"AIModel {name}: minReplicas must not be more than maxReplicas")
    return AIModel(
        name, metadata.get("namespace") or "default", spec, metadata.get("uid") or "", metadata.get("generation") or 0
    )


def unreadable(resource: dict[str, Any]) -> AIModel:
    """What is known of an AIModel that cannot be read: its name. It keeps its topics."""
    metadata = resource["metadata"]
    spec = Spec(type="static", model="?", topic_deletion="Retain")
    return AIModel(metadata["name"], metadata["namespace"], spec, metadata["uid"], metadata.get("generation") or 0)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
