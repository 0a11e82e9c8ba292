"""A gateway's settings: everything it reads from the environment."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.http.cors import ANY
from gateway.http.settings import MIB, HttpSettings
from gateway.keys.api_keys import parse_keys
from gateway.keys.limit_storage import MEMORY, check_storage, is_memory
from gateway.models.file import DeclaredModel, check_model_name, read_models
from gateway.models.names import ModelNames
from gateway.requests.disconnect import OnDisconnect, Policy, parse_policies
from process.host import is_loopback
from process.settings import COUNT_MAX, EMBEDDED_URL, SECONDS_MAX, ObjectName, split
from store.prices import read_prices

_NAMED_BY = "MODELS, MODEL_ALIASES or MODELS_FILE"


class GatewaySettings(HttpSettings):
    """Whom to let in, what to serve, and how much of anything to hold."""

    gateway_processes: int = Field(
        1, ge=1, le=64, description="how many processes serve that port; limits per process are each one's own"
    )
    api_keys: SecretStr | None = Field(
        None, description="keys that clients may use, separated by commas or one on each line, each 'key' or 'name:key'"
    )
    # A secret because a PostgreSQL URL may hold a password. Unset here, unlike for management: a gateway without a
    # database stays small, and works where no database can be reached.
    database_url: SecretStr | None = Field(
        None,
        description="management's database, with the keys of 'fleet keys'; without it API_KEYS alone count",
    )
    keys_stale_s: float = Field(
        300.0, gt=0, le=SECONDS_MAX, description="seconds that those keys stay good while the database is away"
    )
    limits_storage_url: SecretStr = Field(
        SecretStr(MEMORY),
        description="where the uses of limited keys are counted: async+memory:// for each gateway alone, or a store "
        "that all share, such as async+redis://host:6379",
    )
    prices_file: Path | None = Field(
        None, description="management's prices, by which budgets reserve what a request may cost: docs/money.md"
    )
    budgets: bool = Field(
        False,
        description="true to start only with what budgets need, DATABASE_URL and PRICES_FILE, and to serve nobody "
        "while that database is away for too long; those of 'fleet budgets' hold without it too",
    )
    budget_answer_tokens: int = Field(
        4096,
        ge=1,
        le=COUNT_MAX,
        description="tokens that a budget reserves for an answer that its request does not bound",
    )
    metadata_tags: str = Field(
        "*", description="names in a request's metadata that become tags, by commas, or * for all"
    )
    store_prompts: bool = Field(
        False, description="true to keep what clients send: gateways send it, and management stores it, only then"
    )
    allow_anonymous: bool = Field(False, description="true to serve everyone without a key, beyond loopback too")
    models: str = Field("", description="models to list and to queue for before a node of theirs is present, by commas")
    models_file: Path | None = Field(
        None, description="a TOML file that declares models: name, aliases, owned_by, context_length, description"
    )
    aimodels_namespace: ObjectName = Field(
        "", description="the namespace whose AIModels are declared models as well, in Kubernetes"
    )
    model_aliases: str = Field("", description="other names of models, each 'alias=model', by commas")
    default_model: str = Field("", description="the model of requests that name none")
    request_timeout_s: float = Field(
        600.0,
        gt=0,
        le=SECONDS_MAX,
        description="seconds until a request's deadline, if its client does not ask for a shorter one",
    )
    requests_max: int = Field(
        100_000,
        ge=1,
        description="requests that this process owns at once, and ends of such that the broker has not taken yet",
    )
    cold_requests_max: int = Field(
        1000, ge=1, description="requests that may wait for a model whose nodes nobody has measured, or that has none"
    )
    answer_bytes_max: int = Field(64 * MIB, ge=1024, description="bytes of one whole answer")
    stream_buffer_bytes_max: int = Field(8 * MIB, ge=1024, description="bytes of a stream that wait for a slow reader")
    on_disconnect: Policy = Field(
        "cancel", description="what becomes of a request whose client hangs up: cancel, or finish and charge it"
    )
    on_disconnect_models: str = Field("", description="the same for single models, as 'model=finish', by commas")
    on_disconnect_keys: str = Field(
        "", description="the same for single keys by their names, as 'name=finish', by commas; before the model's"
    )
    broker_wait_s: float = Field(
        0.0,
        ge=0,
        le=SECONDS_MAX,
        description="seconds that requests wait for a broker that is away, counted from when it was missed; 0 to "
        "refuse them with 503 at once",
    )
    publish_pending_max: int = Field(
        10_000,
        ge=1,
        description="messages that may wait for the broker's receipt, and requests that may wait for the broker; "
        "beyond, requests get 503",
    )
    publish_pending_bytes_max: int = Field(
        64 * MIB, ge=5 * MIB, description="bytes of such messages, and of the bodies of such requests"
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        le=SECONDS_MAX,
        description="seconds for which all is still answered after the order to stop, unready and on connections that "
        "then end, so that clients and proxies find another gateway first",
    )
    stop_grace_s: float = Field(
        8.0,
        gt=0,
        le=SECONDS_MAX,
        description="seconds that open answers may take to finish at shutdown, and what they cost to be told to a "
        "broker that is away",
    )

    @field_validator("api_keys")
    @classmethod
    def _usable_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_keys(keys.get_secret_value())
        return keys

    @field_validator("database_url")
    @classmethod
    def _usable_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            from store.database import UnusableDatabase, check  # SQLAlchemy is only for who has a database

            try:
                check(url.get_secret_value())
            except UnusableDatabase as error:
                raise ValueError(str(error)) from None
        return url

    @field_validator("prices_file")
    @classmethod
    def _usable_prices(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_prices(path)
        return path

    @field_validator("limits_storage_url")
    @classmethod
    def _usable_storage(cls, url: SecretStr) -> SecretStr:
        check_storage(url.get_secret_value())
        return url

    @field_validator("models")
    @classmethod
    def _usable_models(cls, models: str) -> str:
        for name in split(models):
            check_model_name(name)
        return models

    @field_validator("on_disconnect_models", "on_disconnect_keys")
    @classmethod
    def _usable_policies(cls, setting: str) -> str:
        parse_policies(setting)
        return setting

    @field_validator("models_file")
    @classmethod
    def _usable_file(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_models(path)
        return path

    @field_validator("model_aliases")
    @classmethod
    def _usable_aliases(cls, aliases: str) -> str:
        for alias, model in _pairs(aliases):
            check_model_name(alias)
            check_model_name(model)
        return aliases

    @field_validator("default_model")
    @classmethod
    def _usable_default(cls, model: str) -> str:
        if model:
            check_model_name(model)
        return model

    @model_validator(mode="after")
    def _unambiguous_names(self) -> Self:
        names, aliases = self.model_names, self.model_names.aliases
        for alias, model in aliases.items():
            if alias in names.declared:
                raise ValueError(
                    f"{alias!r} is declared as a model and as an alias of {model!r}: keep one of the two in {_NAMED_BY}"
                )
            if model in aliases:
                raise ValueError(
                    f"{alias!r} is an alias of {model!r}, which is one itself: name the model behind it in {_NAMED_BY}"
                )
        return self

    @model_validator(mode="after")
    def _aimodels_in_cluster(self) -> Self:
        if self.aimodels_namespace:
            self._check_in_cluster("AIMODELS_NAMESPACE")
        return self

    @model_validator(mode="after")
    def _processes_need_what_they_share(self) -> Self:
        if self.gateway_processes == 1:
            return self
        several = f"GATEWAY_PROCESSES={self.gateway_processes}"
        if self.pulsar_url == EMBEDDED_URL:
            raise ValueError(
                f"{several} cannot share the embedded broker, which lives in one process: set PULSAR_URL to a Pulsar "
                "broker, or GATEWAY_PROCESSES=1"
            )
        if self.database_url and is_memory(self.limits_storage_url.get_secret_value()):
            raise ValueError(
                f"{several} would each count the uses of limited keys for itself: set LIMITS_STORAGE_URL to a store "
                "that they share, such as async+redis://localhost:6379"
            )
        return self

    @model_validator(mode="after")
    def _budgets_are_shared(self) -> Self:
        if self.budgets and self.database_url is None:
            raise ValueError(
                "BUDGETS=true needs the database that gateways and management share: set DATABASE_URL, for a budget "
                "that each gateway counted for itself would be spent once by each"
            )
        if self.budgets and self.prices_file is None:
            raise ValueError("BUDGETS=true needs prices to count by: set PRICES_FILE, as for management")
        return self

    @model_validator(mode="after")
    def _strangers_need_keys(self) -> Self:
        if not (self.api_keys or self.database_url or self.lets_strangers_in):
            raise ValueError(
                f"HOST={self.host} would let strangers in: set API_KEYS or DATABASE_URL, or ALLOW_ANONYMOUS=true if "
                "that is meant"
            )
        return self

    @property
    def tag_names(self) -> frozenset[str] | None:
        """Which names in a request's metadata become tags; None for all."""
        return None if self.metadata_tags.strip() == ANY else frozenset(split(self.metadata_tags))

    @property
    def disconnect_policy(self) -> OnDisconnect:
        """What becomes of requests whose clients hang up."""
        return OnDisconnect(
            self.on_disconnect, parse_policies(self.on_disconnect_models), parse_policies(self.on_disconnect_keys)
        )

    @property
    def broker_options(self) -> dict[str, Any]:
        return {
            **super().broker_options,
            "pending_sends_max": self.publish_pending_max,
            "pending_bytes_max": self.publish_pending_bytes_max,
        }

    @property
    def lets_strangers_in(self) -> bool:
        """Whether no key is asked for as long as there is none."""
        return self.allow_anonymous or is_loopback(self.host)

    @cached_property
    def model_names(self) -> ModelNames:
        """What ``MODELS``, ``MODELS_FILE``, ``MODEL_ALIASES`` and ``DEFAULT_MODEL`` say together.

        Raises ValueError where an alias stands for two models.
        """
        declared = {name: DeclaredModel(name=name) for name in split(self.models)}
        pairs = _pairs(self.model_aliases)
        for model in read_models(self.models_file) if self.models_file else ():
            declared[model.name] = model
            pairs += [(alias, model.name) for alias in model.aliases]
        aliases: dict[str, str] = {}
        for alias, name in pairs:
            if aliases.setdefault(alias, name) != name:
                raise ValueError(
                    f"{alias!r} is an alias of {aliases[alias]!r} and of {name!r}: keep one of the two in {_NAMED_BY}"
                )
        return ModelNames(declared, aliases, self.default_model or None)


def _pairs(aliases: str) -> list[tuple[str, str]]:
    pairs = []
    for each in split(aliases):
        alias, equals, model = (part.strip() for part in each.partition("="))
        if not (alias and equals and model):
            raise ValueError("each alias is written as alias=model, separated by commas")
        pairs.append((alias, model))
    return pairs
