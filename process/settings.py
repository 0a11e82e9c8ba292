"""The environment, read once per process and handed down frozen.

Each role has one subclass of :class:`Settings`. :func:`load` names every wrong setting at once, in sentences; a secret
may also come from a file: ``API_KEY_FILE=/run/secrets/key`` instead of ``API_KEY``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from wire.errors import InvalidName
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

S = TypeVar("S", bound="Settings")

EXIT_WRONG_SETTING = 2
"""Exit code of a process whose settings are wrong."""


class WrongSettings(Exception):
    """Some settings are wrong: ``problems`` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
    """What gateway, node and management all need: the broker, the topics' names, and how much to log."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    pulsar_url: str = Field(
        "pulsar://localhost:6650", description="pulsar://host:port, pulsar+ssl://host:port, or memory: in one process"
    )
    pulsar_token: SecretStr | None = Field(None, description="the token that this process shows to the broker")
    pulsar_token_file: Path | None = Field(None, description="a file with the token, read again whenever it is needed")
    pulsar_tls_trust_certs: Path | None = Field(None, description="a PEM file with the authorities to trust for TLS")
    pulsar_tenant: str = Field("public", description="the Pulsar tenant")
    pulsar_namespace_requests: str = Field("default", description="the namespace of requests and dead letters")
    pulsar_namespace_links: str = Field("default", description="the namespace of links, control and presence")
    pulsar_namespace_results: str = Field("default", description="the namespace of the results topic")
    res_topic_name: str = Field("results", description="the results topic, a short name or a full persistent:// one")
    debug: bool = Field(False, description="true for debug logs and tracebacks")

    @field_validator("pulsar_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not url.startswith(("pulsar://", "pulsar+ssl://")) and url != "memory:":
            raise ValueError("it must begin with pulsar:// or pulsar+ssl://, or be memory:")
        if url != "memory:" and not url.partition("://")[2].strip("/"):
            raise ValueError("it names no host")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` hands the whole environment in, secrets from files included: there is one reader of it.
        return (init_settings,)

    @property
    def broker_options(self) -> dict[str, Any]:
        """How to open the broker, beside its address. A token from a file is read again for each connection."""
        token: str | Callable[[], str] | None = self.pulsar_token.get_secret_value() if self.pulsar_token else None
        if (path := self.pulsar_token_file) is not None:
            token = lambda: path.read_text().strip()  # noqa: E731
        certs = self.pulsar_tls_trust_certs
        return {"token": token, "tls_trust_certs": str(certs) if certs else None}

    @property
    def topics(self) -> Topics:
        """The topic names of this deployment, which :func:`load` has checked."""
        return Topics(
            tenant=self.pulsar_tenant,
            requests_namespace=self.pulsar_namespace_requests,
            links_namespace=self.pulsar_namespace_links,
            results_namespace=self.pulsar_namespace_results,
            results_name=self.res_topic_name,
        )


def load(settings: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read the environment. An empty variable counts as unset. Raises :class:`WrongSettings`."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in settings.model_fields.items():
        variable = name.upper()
        if environ.get(variable):
            values[name] = environ[variable].strip()
        if _is_secret(field.annotation) and environ.get(f"{variable}_FILE"):
            if name in values:
                problems.append(f"{variable} and {variable}_FILE are both set: keep one.")
            elif (secret := _secret_of(environ[f"{variable}_FILE"])) is not None:
                values[name] = secret
            else:
                problems.append(f"{variable}_FILE names a file that cannot be read or is empty.")
    try:
        loaded = settings(**values)
    except ValidationError as error:
        raise WrongSettings(problems + [_sentence(settings, detail) for detail in error.errors()]) from None
    try:
        _ = loaded.topics
    except InvalidName as error:
        problems.append(f"PULSAR_TENANT, PULSAR_NAMESPACE_… or RES_TOPIC_NAME: {error.message}")
    if problems:
        raise WrongSettings(problems)
    return loaded


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())


def _secret_of(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _sentence(settings: type[Settings], detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return f"{message[:1].upper()}{message[1:]}."
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        message = "it is not set"
    meant = settings.model_fields[name].description if name in settings.model_fields else None
    return f"{name.upper()}: {message[:1].lower()}{message[1:]}." + (f" It is {meant}." if meant else "")
