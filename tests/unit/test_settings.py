"""Every setting wrong in turn: a sentence names the variable and says what to do, and no secret is in it."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, Literal

import annotated_types
import pytest
from pydantic import SecretStr

from gateway.keys.api_keys import parse_keys
from gateway.settings import GatewaySettings
from management.access import Person
from management.settings import ManagementSettings
from process.settings import Settings, WrongSettings, load
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

ROLES: tuple[type[Settings], ...] = (GatewaySettings, NodeSettings, ManagementSettings)
CANARY = "CANARY-0123456789"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY * 20}\n-----END PRIVATE KEY-----"
"""What somebody may give instead of its file: longer than the name of one can be."""
SECRETS_THAT_CANNOT_BE_WRONG = {"pulsar_token", "management_key"}
FREE_TEXT = {
    *("static_answer", "pulsar_token_file", "api_key_file", "tokenizer"),
    "service_account_dir",
    "metadata_tags",
    *("model_path", "local_program", "local_log", "lora", "revision", "chat_template"),
    *SECRETS_THAT_CANNOT_BE_WRONG,
}
"""What takes any value. A new setting is either wrong for some value or listed here."""
SPECIAL = {
    "otel_exporter_otlp_endpoint": ["localhost:4318", "grpc://host:4317"],
    "otel_exporter_otlp_traces_endpoint": ["host:4318/v1/traces"],
    "pulsar_url": [
        "localhost:6650",
        "http://localhost",
        "pulsar://",
        "pulsar+ssl:///",
        "memory",
        "pulsar://host:port",
        "pulsar://host:99999",
        "pulsar://host:0",
        f"pulsar://user:{CANARY}@host:6650",
        "pulsar://host:6650/public/default",
        "pulsar://a,,b",
        "pulsar://a b",
        "pulsar://[::1",
    ],
    "pulsar_tls_trust_certs": ["/nowhere/ca.pem", "/", PEM],
    "pulsar_tenant": ["a/b", "-a", "a b", "x" * 200],
    "pulsar_namespace_requests": ["public/default", "é"],
    "pulsar_namespace_links": ["*"],
    "pulsar_namespace_results": ["."],
    "res_topic_name": ["a/b", "non-persistent://public/default/results", "persistent://a/b", "x y", "x" * 300],
    "host": ["not a host", "http://127.0.0.1", "gateway:8081", "127.0.0.1\n"[:9] + "/8", "é"],
    "node_host": ["not a host", "::zz"],
    "management_host": ["not a host", "http://127.0.0.1", "a\nb"],
    "api_keys": [CANARY[:7], f"{CANARY},", f"{CANARY},{CANARY}", f"a:{CANARY},a:{CANARY}x", f":{CANARY}", f"{CANARY} x",
                 f"{CANARY}é", f"{'n' * 65}:{CANARY}"],
    "management_keys": [CANARY, f"a:{CANARY}", f"a=owner:{CANARY}", f"=reader:{CANARY}", f"a=reader:{CANARY[:7]}",
                        f"a=reader:{CANARY},a=operator:{CANARY}x", f"a=reader:{CANARY},b=reader:{CANARY}",
                        f"a=reader:{CANARY} x", f"management=operator:{CANARY}", f"{'n' * 65}=reader:{CANARY}"],
    "api_proxy": [CANARY, f"socks5://u:{CANARY}@proxy", f"http://u:{CANARY}@", f"http://u:{CANARY}@proxy:port",
                  f"http://u:{CANARY}@proxy/path", f"http://u:{CANARY}@pro xy"],
    "alert_webhook_url": [CANARY, f"ftp://{CANARY}", f"https://hooks.example/{CANARY} x"],
    "limits_storage_url": [CANARY, "memory://", "redis://localhost", f"async+{CANARY}://x", "async+redis://[::1",
                           f"async+mongodb://u:{CANARY}@host"],
    "prices_file": ["/nowhere/prices.toml", "/"],
    "time_zone": ["Nowhere/Land", "/etc/passwd", "Europe"],
    "ssl_certfile": ["/nowhere/cert.pem", "/", PEM],
    "ssl_keyfile": ["/nowhere/key.pem", "/", PEM],
    "management_ssl_certfile": ["/nowhere/cert.pem", "/", PEM],
    "management_ssl_keyfile": ["/nowhere/key.pem", "/", PEM],
    "management_trusted_proxies": ["*", "proxy.example", "10.0.0.1/8"],
    "trusted_proxies": ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1:80", "127.0.0.1,unix:"],
    "cors_origins": ["app.example", "https://app.example/", "https://", "*,https://a.example", "null", "HTTPS://A", "https://*.a",
                     "https://a.example:443", "http://[::1]:80"],
    "models": ["x" * 257, "a,b\x00c"],
    "on_disconnect_models": ["small", "small=stop", "small=finish,small=cancel"],
    "on_disconnect_keys": ["team-a", "=finish"],
    "models_file": ["/nowhere/models.toml", "/"],
    "model_aliases": ["a", "a=", "=b", "a=b,c", "a=x\x00y", "x" * 257 + "=a"],
    "default_model": ["x" * 257, "a\x00b"],
    "dialect": ["klingon", "openai,vllm", "max-tokens,klingon"],
    "endpoints": ["chat", "completions,", "completions;embeddings"],
    "model_name": ["x" * 257, "a\nb"],
    "upstream_model": ["x" * 256, "a\nb"],
    "node_name": ["x" * 256, "\x1b[31m"],
    "aimodel_name": ["x" * 254, "Large", "-a", "a_b"],
    "aimodel_namespace": ["x" * 254, "a/b"],
    "aimodels_namespace": ["x" * 254, "A"],
    "kubernetes_service_host": ["a host", "https://host"],
    "api_url": ["localhost", "ftp://x", f"https://user:{CANARY}@host/v1", "https://a b/", "https://", "https://h#x"],
    "gpus": ["a", "0,", "0;1"],
    "device": ["gpu", "cuda:x"],
    "local_command": ["serve --port {port} 'x", "serve --port 8000"],
    "local_arguments": ["--x 'y"],
    "api_key": [f"{CANARY} x", f"{CANARY}\u00e9", f"{CANARY}\x01"],
    "database_url": [f"{CANARY}", f"mysql://u:{CANARY}@host/db", f"postgresql+asyncpg://u:{CANARY}@host", "sqlite+aiosqlite://",
                     f"postgresql+asyncpg://u:p@ss:{CANARY}@host/db", "postgresql+asyncpg://u:p@[::1/db"],
}  # fmt: skip


def kinds(field: FieldInfo) -> set[Any]:
    """The types of a field, without None."""
    annotation = field.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation)) - {type(None)}
    return {annotation}


def wrong_values(name: str, field: FieldInfo) -> list[str]:
    """Values that this field must refuse, from its type and bounds."""
    values = list(SPECIAL.get(name, []))
    (kind,) = kinds(field)
    if kind in (int, float):
        values += ["many", "1,5", "", "0x10"] if kind is int else ["many", "1,5", "inf", "-inf", "nan", "1e400"]
        for bound in field.metadata:
            match bound:
                case annotated_types.Ge(ge=least):
                    values.append(str(int(typing.cast("int", least)) - 1))
                case annotated_types.Gt(gt=least):
                    values.append(str(least))
                case annotated_types.Le(le=most):
                    values.append(str(int(typing.cast("int", most)) + 1))
    elif kind is bool:
        values += ["perhaps", "2"]
    elif typing.get_origin(kind) is Literal:
        values += ["nonsense", "STATIC "]
    return [value for value in values if value]


CASES = [
    pytest.param(role, name, value, id=f"{role.__name__}-{name.upper()}-{ascii(value)[:30]}")
    for role in ROLES
    for name, field in role.model_fields.items()
    for value in wrong_values(name, field)
]


def problems(role: type[Settings], environ: dict[str, str]) -> list[str]:
    with pytest.raises(WrongSettings) as caught:
        load(role, environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize("role", ROLES)
def test_nothing_needs_to_be_set(role: type[Settings]) -> None:
    load(role, {})


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_can_be_wrong_or_is_free_text(role: type[Settings]) -> None:
    for name, field in role.model_fields.items():
        assert bool(wrong_values(name, field)) != (name in FREE_TEXT), name
        assert field.description, name


@pytest.mark.parametrize(("role", "name", "value"), CASES)
def test_a_wrong_setting_is_named_with_a_remedy(role: type[Settings], name: str, value: str) -> None:
    (sentence,) = problems(role, {name.upper(): value})
    assert sentence.startswith(f"{name.upper()}: ")
    assert sentence.endswith(f"It is {role.model_fields[name].description}.")
    assert sentence.count(name.upper()) == 1 or name in ("host", "api_keys", "api_url")
    assert ".." not in sentence.replace("…", "")
    assert sentence.isprintable()
    assert CANARY[:6] not in sentence
    assert len(sentence) < 500


@pytest.mark.parametrize("role", ROLES)
def test_all_wrong_settings_are_named_at_once(role: type[Settings]) -> None:
    wrong = {
        name.upper(): values[0] for name, field in role.model_fields.items() if (values := wrong_values(name, field))
    }
    assert {sentence.split(":")[0] for sentence in problems(role, wrong)} == set(wrong)


@pytest.mark.parametrize("role", ROLES)
def test_an_empty_or_blank_variable_counts_as_unset(role: type[Settings]) -> None:
    assert load(role, {name.upper(): " \t" for name in role.model_fields}) == load(role, {})


@pytest.mark.parametrize("role", ROLES)
def test_settings_are_frozen(role: type[Settings]) -> None:
    loaded = load(role, {})
    with pytest.raises(ValueError, match="frozen"):
        loaded.debug = True  # type: ignore[misc]


SECRETS = [(role, name) for role in ROLES for name, field in role.model_fields.items() if SecretStr in kinds(field)]
GOOD_SECRET = {
    "api_proxy": f"http://user:{CANARY}@proxy:3128",
    "database_url": f"postgresql+asyncpg://user:{CANARY}@host/database",
    "limits_storage_url": f"async+memory://{CANARY}",
    "management_keys": f"alice=operator:{CANARY}",
    "alert_webhook_url": f"https://hooks.example/{CANARY}",
}


def test_the_secrets_are_known() -> None:
    known = {"pulsar_token", "api_keys", "api_key", "management_key", "database_url", "limits_storage_url"}
    known |= {"management_keys", "alert_webhook_url", "api_proxy"}
    assert {name for _, name in SECRETS} == known


@pytest.mark.parametrize(
    ("role", "settings", "hidden"),
    [
        (NodeSettings, {"API_KEY": "account_secret:v2"}, "account_secret:v2"),
        (NodeSettings, {"API_KEY": "one,other"}, "one,other"),
        (ManagementSettings, {"ALERT_WEBHOOK_URL": "https://hooks.example/T0/B0/x"}, "https://hooks.example/T0/B0/x"),
        (ManagementSettings, {"DATABASE_URL": "postgresql+asyncpg://user:pa/ss@word[@host/db"}, "pa/ss@word["),
        (ManagementSettings, {"DATABASE_URL": "postgresql+asyncpg://user:hidden@host/db?user=a@b"}, "hidden"),
        (ManagementSettings, {"MANAGEMENT_KEYS": "alice=operator:opensesame,bob=reader:abracadabra"}, "abracadabra"),
    ],
)
def test_a_secret_is_masked_whatever_it_holds(role: type[Settings], settings: dict[str, str], hidden: str) -> None:
    remote = {"NODE_TYPE": "remote", "MODEL_NAME": "m", "API_URL": "http://provider.example/v1"}
    assert hidden in load(role, settings | (remote if role is NodeSettings else {})).secrets


@pytest.mark.parametrize(("role", "name"), SECRETS)
def test_a_secret_may_come_from_a_file(role: type[Settings], name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"\n{GOOD_SECRET.get(name, CANARY)}\n")
    loaded = load(role, {f"{name.upper()}_FILE": f" {file} "})
    assert getattr(loaded, name).get_secret_value() == GOOD_SECRET.get(name, CANARY)
    assert CANARY not in repr(loaded)
    assert CANARY not in str(loaded)


@pytest.mark.parametrize("between", [",", " , ", "\n", "\r\n", ",\n", "\n\n"])
def test_a_file_of_keys_may_have_a_line_for_each(between: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(f"a:key-of-alice{between}b:key-of-bob\n".encode())
    gateway = load(GatewaySettings, {"API_KEYS_FILE": str(file)})
    assert gateway.api_keys is not None
    assert parse_keys(gateway.api_keys.get_secret_value()) == {"a": "key-of-alice", "b": "key-of-bob"}
    assert {"key-of-alice", "key-of-bob"} <= gateway.secrets
    people = load(ManagementSettings, {"MANAGEMENT_KEYS": f"a=reader:key-of-alice{between}b=operator:key-of-bob"})
    assert people.access.holder("key-of-bob") == Person("b", "operator")
    assert {"key-of-alice", "key-of-bob"} <= people.secrets


@pytest.mark.parametrize(("role", "name"), SECRETS)
def test_a_secret_and_its_file_are_not_both_taken(role: type[Settings], name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(CANARY)
    variable = name.upper()
    assert problems(role, {variable: GOOD_SECRET.get(name, CANARY), f"{variable}_FILE": str(file)}) == [
        f"{variable} and {variable}_FILE are both set: keep one."
    ]


@pytest.mark.parametrize(("role", "name"), SECRETS)
@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"], ids=["missing", "empty", "blank", "binary"])
def test_a_secrets_file_that_is_of_no_use_is_named(
    role: type[Settings], name: str, content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    (sentence,) = problems(role, {f"{name.upper()}_FILE": str(file)})
    assert sentence.startswith(f"{name.upper()}_FILE names a file that cannot be read or is empty: give ")


@pytest.mark.parametrize(("role", "name"), SECRETS)
def test_a_wrong_secret_in_a_file_is_not_shown(role: type[Settings], name: str, tmp_path: Path) -> None:
    if name in SECRETS_THAT_CANNOT_BE_WRONG:
        return
    file = tmp_path / "secret"
    file.write_text(SPECIAL[name][0])
    (sentence,) = problems(role, {f"{name.upper()}_FILE": str(file)})
    assert sentence.startswith(f"{name.upper()}: ")
    assert CANARY[:6] not in sentence


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.example"])
def test_a_gateway_beyond_loopback_needs_keys_or_a_word_for_it(host: str) -> None:
    (sentence,) = problems(GatewaySettings, {"HOST": host})
    assert f"HOST={host}" in sentence
    assert "API_KEYS" in sentence
    assert "DATABASE_URL" in sentence
    assert "ALLOW_ANONYMOUS=true" in sentence
    load(GatewaySettings, {"HOST": host, "API_KEYS": CANARY})
    load(GatewaySettings, {"HOST": host, "ALLOW_ANONYMOUS": "true"})
    load(GatewaySettings, {"HOST": host, "DATABASE_URL": "sqlite+aiosqlite:///keys.db"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    load(GatewaySettings, {"HOST": host})


def test_what_is_wrong_between_settings_is_named_beside_what_is_wrong_alone() -> None:
    alone, between = problems(GatewaySettings, {"HOST": "0.0.0.0", "PORT": "many"})
    assert alone.startswith("PORT: ")
    assert between.startswith("HOST=0.0.0.0 ")


def test_what_may_be_right_once_another_is_right_is_not_named() -> None:
    (sentence,) = problems(GatewaySettings, {"HOST": "0.0.0.0", "API_KEYS": "short"})
    assert sentence.startswith("API_KEYS: ")


def test_a_remote_node_names_everything_that_it_lacks() -> None:
    sentences = problems(NodeSettings, {"NODE_TYPE": "remote"})
    assert [sentence.split(":")[0] for sentence in sentences] == ["MODEL_NAME", "API_URL"]
    assert all("NODE_TYPE=remote also needs it" in sentence for sentence in sentences)
    assert len(problems(NodeSettings, {"NODE_TYPE": "remote", "API_URL": "nonsense"})) == 2


def test_a_management_beyond_loopback_needs_a_key() -> None:
    (sentence,) = problems(ManagementSettings, {"MANAGEMENT_HOST": "0.0.0.0"})
    assert "MANAGEMENT_KEY" in sentence


def test_the_file_of_a_token_is_handed_on_to_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    # The broker gets the file itself beside its content of now.
    assert load(Settings, {"PULSAR_TOKEN_FILE": str(file)}).broker_options["token_file"] == file


@pytest.mark.parametrize("url", ["async+redis://host", "async+redis+sentinel://host:26379", "async+redis://host:port"])
def test_a_store_of_limits_without_port_or_service_lacks_that_and_no_package(url: str) -> None:
    (sentence,) = problems(GatewaySettings, {"LIMITS_STORAGE_URL": url})
    assert "which has a port, and for sentinels the name of the service at its end" in sentence
    (sentence,) = problems(GatewaySettings, {"LIMITS_STORAGE_URL": "async+mongodb://host:27017"})
    assert "pip install 'limits[async-mongodb]'" in sentence


def test_several_processes_need_a_broker_and_a_store_of_limits_that_they_share() -> None:
    several = {"GATEWAY_PROCESSES": "2"}
    load(GatewaySettings, several)
    (sentence,) = problems(GatewaySettings, {**several, "PULSAR_URL": "memory:"})
    assert sentence.startswith("GATEWAY_PROCESSES=2 cannot share the embedded broker")
    assert "set PULSAR_URL" in sentence
    keys = {"DATABASE_URL": "sqlite+aiosqlite:///keys.db"}
    load(GatewaySettings, keys)
    for storage in ({}, {"LIMITS_STORAGE_URL": "async+memory://"}, {"LIMITS_STORAGE_URL": "async+memory://x"}):
        (sentence,) = problems(GatewaySettings, {**several, **keys, **storage})
        assert "set LIMITS_STORAGE_URL to a store that they share" in sentence
