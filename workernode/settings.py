"""A node's settings: everything it reads from the environment."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from process.host import check_host
from process.model_name import model_name
from process.settings import COUNT_MAX, SECONDS_MAX, InCluster, ObjectName, is_sendable
from wire.errors import InvalidName
from wire.request import Endpoint
from wire.topics import segment
from workernode.local.settings import LocalSettings
from workernode.remote.dialects.dialect import dialect_named
from workernode.remote.url import check_proxy, endpoint_url

NAME_CHARS_MAX = 255


def _name(text: str) -> str:
    if len(text) > NAME_CHARS_MAX or not text.isprintable():
        raise ValueError(f"it has more than {NAME_CHARS_MAX} characters, or some that cannot be printed")
    return text


Name = Annotated[str, AfterValidator(_name)]
"""Travels in heartbeats and events, whose readers refuse anything longer: its bills would not be understood."""


class NodeSettings(LocalSettings, InCluster):
    """``NODE_TYPE`` decides which of the others are needed."""

    node_type: Literal["static", "remote", "local"] = Field(
        "static", description="static (a fixed answer), remote (a provider) or local (a model on this machine)"
    )
    model_name: str = Field("", validate_default=True, description="the model's public name, which clients ask for")
    upstream_model: Name = Field("", description="what the provider calls the model, if not MODEL_NAME")
    api_url: str = Field(
        "", validate_default=True, description="the provider's address, such as https://api.openai.com/v1"
    )
    api_key: SecretStr | None = Field(None, description="the provider's key")
    api_key_file: Path | None = Field(None, description="a file with the provider's key, read again when it changes")
    api_proxy: SecretStr | None = Field(
        None,
        description="the HTTP proxy through which the provider is reached, such as http://proxy:3128, or "
        "http://user:password@proxy:3128",
    )
    dialect: str = Field(
        "",
        description="how the provider speaks, and adapters by commas (docs/remote-node.md); by API_URL's host if empty",
    )
    tokenizer: str = Field(
        "",
        description="a tokenizer.json that counts tokens where the provider does not, and prompts for token_check; "
        "else their length does",
    )
    endpoints: str = Field(
        ",".join(get_args(Endpoint)), description="what the model serves, by commas: all of its nodes alike"
    )
    context_length: int | None = Field(
        None, ge=1, le=COUNT_MAX, description="tokens that prompt and answer may have together, if it is known"
    )
    static_answer: str = Field(
        "This is the static responder of WorkerNode: the way from your client to a node and back works.",
        description="what a static node answers",
    )
    max_process_num: int = Field(128, ge=1, le=4096, description="how many requests this node works on at once")
    rpm_max: int | None = Field(
        None,
        ge=1,
        le=COUNT_MAX,
        description="requests per minute to the provider, of all nodes with the same key together",
    )
    tpm_max: int | None = Field(
        None,
        ge=1,
        le=COUNT_MAX,
        description="tokens per minute, of prompts and answers, likewise of all nodes together",
    )
    concurrency_max: int | None = Field(
        None,
        ge=1,
        description="requests at once to the provider, likewise of all nodes together; at most MAX_PROCESS_NUM",
    )
    parked_max: int = Field(
        1024, ge=1, description="how many deliveries may wait without a slot, for another node's end or a gateway's"
    )
    node_host: str = Field("127.0.0.1", description="where health and metrics listen")
    node_port: int = Field(8083, ge=0, le=65535, description="the port of health and metrics")
    node_name: Name = Field(default_factory=socket.gethostname, description="what people call this node")
    drain_s: float = Field(
        8.0, ge=0, le=SECONDS_MAX, description="seconds that running answers may take to finish at shutdown"
    )
    connect_timeout_s: float = Field(5.0, gt=0, le=SECONDS_MAX, description="seconds to reach the provider")
    first_token_timeout_s: float = Field(
        300.0, gt=0, le=SECONDS_MAX, description="seconds until the provider's first byte"
    )
    between_tokens_timeout_s: float = Field(
        60.0, gt=0, le=SECONDS_MAX, description="seconds between two parts of an answer"
    )
    answer_bytes_max: int = Field(64 * 1024 * 1024, gt=0, description="bytes of one answer that are passed on")
    aimodel_name: ObjectName = Field(
        "", description="the AIModel that this node belongs to, in whose status it shows how it is"
    )
    aimodel_namespace: ObjectName = Field("", description="the namespace of that AIModel")

    @field_validator("model_name")
    @classmethod
    def _usable_name(cls, name: str, info: ValidationInfo) -> str:
        _require(name, info)
        if name:
            try:
                segment(name)
            except InvalidName as error:
                raise ValueError(error.message) from None
        return name

    @field_validator("api_key")
    @classmethod
    def _sendable_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not is_sendable(key.get_secret_value()):
            raise ValueError("it holds a character that cannot stand in a header")
        return key

    @field_validator("concurrency_max")
    @classmethod
    def _one_node_can_use_it(cls, concurrency: int | None, info: ValidationInfo) -> int | None:
        slots = info.data.get("max_process_num")
        if concurrency is not None and slots is not None and concurrency > slots:
            raise ValueError(f"it is more than the {slots} of MAX_PROCESS_NUM: lower it, or raise that")
        return concurrency

    @field_validator("node_host")
    @classmethod
    def _usable_host(cls, host: str) -> str:
        return check_host(host)

    @field_validator("api_url")
    @classmethod
    def _usable_url(cls, url: str, info: ValidationInfo) -> str:
        _require(url, info)
        if url:
            endpoint_url(url, "chat/completions")
        return url

    @field_validator("api_proxy")
    @classmethod
    def _usable_proxy(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_proxy(url.get_secret_value())
        return url

    @field_validator("dialect")
    @classmethod
    def _known_dialect(cls, words: str) -> str:
        dialect_named(words)
        return words

    @field_validator("endpoints")
    @classmethod
    def _known_endpoints(cls, endpoints: str) -> str:
        known = get_args(Endpoint)
        names = [name.strip() for name in endpoints.split(",")]
        if not all(name in known for name in names):
            raise ValueError(f"it names something else than {', '.join(known)}")
        return ",".join(dict.fromkeys(names))

    @model_validator(mode="after")
    def _has_a_model(self) -> NodeSettings:
        if self.node_type == "local":
            needed = "local_command" if self.local_engine == "command" else "model_path"
            if not getattr(self, needed):
                raise ValueError(f"LOCAL_ENGINE={self.local_engine} also needs {needed.upper()}")
            try:
                segment(self.model)
            except InvalidName as error:
                raise ValueError(f"set MODEL_NAME: {error.message}") from None
        return self

    @model_validator(mode="after")
    def _one_aimodel(self) -> Self:
        if bool(self.aimodel_name) != bool(self.aimodel_namespace):
            raise ValueError("AIMODEL_NAME and AIMODEL_NAMESPACE name one object together: set both, or none")
        if self.aimodel_name:
            self._check_in_cluster("AIMODEL_NAME")
        return self

    @property
    def served(self) -> tuple[Endpoint, ...]:
        """The endpoints of this node's model."""
        return tuple(name for name in get_args(Endpoint) if name in self.endpoints.split(","))

    @property
    def model(self) -> str:
        """The public name of this node's model."""
        return model_name(self.model_name, self.node_type, self.model_path)


def _require(value: str, info: ValidationInfo) -> None:
    if not value and info.data.get("node_type") == "remote":
        raise ValueError("NODE_TYPE=remote also needs it")
