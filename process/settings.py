"""The environment, read once per process and handed down frozen.

Each role has one subclass of :class:`Settings`. :func:`load` names every wrong setting at once, in sentences; a secret
may also come from a file: ``API_KEY_FILE=/run/secrets/key`` instead of ``API_KEY``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from process.host import HOST
from process.tls import check_readable
from wire.errors import InvalidName
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationInfo
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound="Settings")

SECONDS_MAX = 86_400
"""A day: no setting in seconds means more, and a timer of the event loop takes no infinite one."""
COUNT_MAX = 10**9
"""No setting in tokens or requests means more; nodes tell theirs in heartbeats, whose numbers have a bound."""

_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")

EXIT_WRONG_SETTING = 2
"""Exit code of a process whose settings are wrong."""
EMBEDDED_URL = "memory:"
"""The address of the embedded broker, which lives in the process that opens it."""


TOPIC_PARTS = {
    "pulsar_tenant": "tenant",
    "pulsar_namespace_requests": "requests_namespace",
    "pulsar_namespace_links": "links_namespace",
    "pulsar_namespace_results": "results_namespace",
    "res_topic_name": "results_name",
}
"""The settings that become parts of topic names, and what :class:`wire.topics.Topics` calls them."""


class WrongSettings(Exception):
    """Some settings are wrong: ``problems`` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
    """What every role needs: the broker, the topics' names, how much to log, and where traces go."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)

    pulsar_url: str = Field(
        "pulsar://localhost:6650",
        description="pulsar://host:port or pulsar+ssl://host:port, more hosts by commas; or memory: in one process",
    )
    pulsar_token: SecretStr | None = Field(None, description="the token that this process shows to the broker")
    pulsar_token_file: Path | None = Field(None, description="a file with the token, read again whenever it is needed")
    pulsar_tls_trust_certs: Path | None = Field(None, description="a PEM file with the authorities to trust for TLS")
    pulsar_tenant: str = Field("public", description="the Pulsar tenant")
    pulsar_namespace_requests: str = Field("default", description="the namespace of requests and dead letters")
    pulsar_namespace_links: str = Field("default", description="the namespace of links, control and presence")
    pulsar_namespace_results: str = Field("default", description="the namespace of the results topic")
    res_topic_name: str = Field("results", description="the results topic, a short name or a full persistent:// one")
    debug: bool = Field(False, description="true: short for LOG_LEVEL=debug")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that is logged: debug, info, warning or error"
    )
    log_format: Literal["json", "text", "colour"] | None = Field(
        None, description="json, text or colour; without it coloured text on a terminal, else JSON"
    )

    otel_exporter_otlp_endpoint: str = Field(
        "",
        description="where traces go, such as http://localhost:4318; there are none without it (docs/observability.md)",
    )
    otel_exporter_otlp_traces_endpoint: str = Field(
        "", description="the same in full, such as http://host:4318/v1/traces"
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", description="how traces travel, and no other way"
    )
    otel_traces_exporter: Literal["otlp", "none"] = Field("otlp", description="none: no traces, whatever else is set")
    otel_sdk_disabled: bool = Field(False, description="true: no traces either")

    @field_validator("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("it must begin with http:// or https://")
        return url

    @field_validator("pulsar_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not url.startswith(("pulsar://", "pulsar+ssl://")) and url != EMBEDDED_URL:
            raise ValueError("it must begin with pulsar:// or pulsar+ssl://, or be memory:")
        if url != EMBEDDED_URL:
            _check_hosts(url.partition("://")[2])
        return url

    @field_validator("pulsar_tls_trust_certs")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        return check_readable(path)

    @field_validator(*TOPIC_PARTS)
    @classmethod
    def _usable_in_topics(cls, part: str, info: ValidationInfo) -> str:
        try:
            Topics(**{TOPIC_PARTS[info.field_name or ""]: part})
        except InvalidName as error:
            raise ValueError(error.message) from None
        return part

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
        return {
            "token": self.pulsar_token.get_secret_value() if self.pulsar_token else None,
            "token_file": self.pulsar_token_file,
            "tls_trust_certs": self.pulsar_tls_trust_certs,
        }

    @property
    def logging(self) -> dict[str, Any]:
        """How to log: see :func:`process.logging.set_up`."""
        return {
            "level": "debug" if self.debug else self.log_level,
            "form": self.log_format,
            "secrets": self.secrets,
        }

    @property
    def secrets(self) -> frozenset[str]:
        """What must be written nowhere."""
        given = (getattr(self, name) for name in type(self).model_fields)
        texts = [value.get_secret_value() for value in given if isinstance(value, SecretStr)]
        return frozenset(secret for text in texts for secret in _secrets_in(text))

    @property
    def traces_url(self) -> str | None:
        """Where traces go, if anywhere."""
        if self.otel_sdk_disabled or self.otel_traces_exporter == "none":
            return None
        if self.otel_exporter_otlp_traces_endpoint:
            return self.otel_exporter_otlp_traces_endpoint
        base = self.otel_exporter_otlp_endpoint
        return f"{base.rstrip('/')}/v1/traces" if base else None

    @property
    def topics(self) -> Topics:
        """The topic names of this deployment."""
        return Topics(**{part: getattr(self, setting) for setting, part in TOPIC_PARTS.items()})


def _object_name(name: str) -> str:
    if name and not _OBJECT.fullmatch(name):
        raise ValueError("it can be no name in Kubernetes: lower-case letters, digits, '-' and '.'")
    return name


ObjectName = Annotated[str, AfterValidator(_object_name)]
"""A name of an object in Kubernetes, or empty."""


class InCluster(Settings):
    """What a role needs besides that has something to tell or to ask the cluster's API server."""

    kubernetes_service_host: str = Field("", description="the API server's host; Kubernetes sets it")
    kubernetes_service_port: int = Field(443, ge=1, le=65535, description="its port; Kubernetes sets it")
    service_account_dir: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        description="the folder with the service account's token and ca.crt, where Kubernetes puts them",
    )

    @field_validator("kubernetes_service_host")
    @classmethod
    def _usable_address(cls, host: str) -> str:
        if host and not HOST.fullmatch(host):
            raise ValueError("it is no address")
        return host

    @property
    def api_server(self) -> str:
        """The API server's address."""
        host = self.kubernetes_service_host
        return f"https://{f'[{host}]' if ':' in host else host}:{self.kubernetes_service_port}"

    def _check_in_cluster(self, setting: str) -> None:
        """Raises ValueError with a sentence where ``setting`` cannot be obeyed."""
        if not self.kubernetes_service_host:
            raise ValueError(f"{setting} needs a cluster, and KUBERNETES_SERVICE_HOST is not set: unset {setting}")


def load(settings: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read the environment. An empty variable counts as unset. Raises :class:`WrongSettings`."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in settings.model_fields.items():
        variable = name.upper()
        if value := environ.get(variable, "").strip():
            values[name] = value
        if _is_secret(field.annotation) and (path := environ.get(f"{variable}_FILE", "").strip()):
            if name in values:
                problems.append(f"{variable} and {variable}_FILE are both set: keep one.")
            elif (secret := _secret_of(path)) is not None:
                values[name] = secret
            else:
                problems.append(
                    f"{variable}_FILE names a file that cannot be read or is empty: give the path of one that holds "
                    f"the value of {variable}, or unset it."
                )
    try:
        loaded = settings(**values)
    except ValidationError as error:
        problems += [_sentence(settings, detail) for detail in error.errors()]
        problems += _problems_beside(settings, values, error)
        raise WrongSettings(problems) from None
    if problems:
        raise WrongSettings(problems)
    return loaded


def variables(settings: type[Settings]) -> set[str]:
    """Every variable that :func:`load` reads for these settings."""
    fields = settings.model_fields.items()
    files = {f"{name.upper()}_FILE" for name, field in fields if _is_secret(field.annotation)}
    return files | {name.upper() for name, _ in fields}


def path_variables(settings: type[Settings]) -> set[str]:
    """Those of :func:`variables` that name a file: settings that are paths, and the files of secrets."""
    paths = {name.upper() for name, field in settings.model_fields.items() if Path in _types(field.annotation)}
    return paths | {name for name in variables(settings) if name.endswith("_FILE")}


def split(names: str) -> list[str]:
    """The non-empty parts between commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def split_keys(keys: str) -> list[str]:
    """The parts between commas or lines, for a file may have a line for each; an empty one is somebody's mistake."""
    return re.split(r"\s*[,\n]\s*", keys.strip())


def is_sendable(secret: str) -> bool:
    """Whether a secret can stand in a header as it is."""
    return secret.isascii() and secret.isprintable() and " " not in secret


def _problems_beside(settings: type[S], values: dict[str, Any], error: ValidationError) -> list[str]:
    """What is wrong between settings, which is only looked at once none is wrong alone.

    A sentence that speaks of one of the wrong ones is left out: it may not hold any more when that one is right.
    """
    wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
    try:
        settings(**{name: value for name, value in values.items() if name not in wrong})
    except ValidationError as beside:
        if not wrong:
            return []  # the same ones again
        sentences = [_sentence(settings, detail) for detail in beside.errors()]
        names = [name.upper() for name in wrong]
        return [each for each in sentences if not any(re.search(rf"\b{name}\b", each) for name in names)]
    return []


def _check_hosts(hosts: str) -> None:
    """Raises ValueError with a sentence that repeats nothing: a secret may stand in an address."""
    if "@" in hosts:
        raise ValueError("it holds a user or password: give a token as PULSAR_TOKEN instead")
    if not hosts.isprintable() or " " in hosts or set(hosts.rstrip("/")) & set("/?#"):
        raise ValueError("it goes on after the host and port")
    for place in hosts.rstrip("/").split(","):
        try:
            parts = urlsplit(f"//{place}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("it has a host or port that cannot be read") from None
        if not host or port == 0:
            raise ValueError("it names no host, or port 0")


def _is_secret(annotation: Any) -> bool:
    return SecretStr in _types(annotation)


def _types(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _secret_of(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except (OSError, ValueError):
        return None


def _secrets_in(text: str) -> list[str]:
    """All that may be one: an address, as a webhook's, and the password in it; or each key of a list."""
    if "://" in text:
        # Not parsed: a password may hold what an address may not, and an @, so that nobody knows where it ends.
        rest = text.partition("://")[2]
        places = {rest.partition("@")[0], rest.rpartition("@")[0]}
        return [text, *(place.partition(":")[2] for place in sorted(places) if ":" in place)]
    return [text, *(part.rpartition(":")[2] for part in split_keys(text))]


def _sentence(settings: type[Settings], detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if not detail["loc"]:
        return f"{message[:1].upper()}{message[1:]}."
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        message = "it is not set"
    meant = settings.model_fields[name].description if name in settings.model_fields else None
    message = message.removeprefix(f"{name.upper()} ")
    if not message[:2].isupper():
        message = f"{message[:1].lower()}{message[1:]}"
    return f"{name.upper()}: {message}." + (f" It is {meant}." if meant else "")
