"""Which broker `fleet start` uses, and what it starts for it."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from fleet.start import broker_waves, docker, fleet_plan, image, java
from fleet.start.broker_choice import Broker, Choice, choose, endpoints, find_home, without_credentials
from fleet.start.broker_data import data_directory, hold
from fleet.start.ending import CannotStart, Ending
from fleet.start.environment import complete
from fleet.start.greeting import greeting
from fleet.start.pulsar_conf import parse, with_settings
from fleet.start.settings import StartSettings
from fleet.start.supervisor import share

URL = "pulsar://broker:6650"
HOME = Path("/opt/apache-pulsar-4.2.4")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Java, Maven and a Docker daemon were there."""
    monkeypatch.setattr(java, "require_java", lambda env: None)
    monkeypatch.setattr(java, "require_maven", lambda env: None)
    monkeypatch.setattr(docker, "require_daemon", lambda env: "28.0.0")
    monkeypatch.setattr(docker, "has_image", lambda image, env: False)


def pulsar_in(directory: Path) -> Path:
    """An unpacked Apache Pulsar, as far as we look."""
    for name in ("bin/pulsar", "conf/standalone.conf"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("brokerServicePort=6650\n")
    return directory


@pytest.mark.parametrize(
    ("asked", "url", "home", "chosen"),
    [
        ("auto", URL, HOME, Broker.EXTERNAL),
        ("auto", None, HOME, Broker.DIRECTORY),
        ("auto", None, None, Broker.EMBEDDED),
        ("auto", "memory:", HOME, Broker.EMBEDDED),
        ("docker", URL, HOME, Broker.DOCKER),
        ("maven", URL, None, Broker.MAVEN),
        ("embedded", URL, HOME, Broker.EMBEDDED),
    ],
)
def test_the_command_line_goes_before_pulsar_url_before_a_directory(
    asked: str, url: str | None, home: Path | None, chosen: Broker
) -> None:
    choice = choose(asked, url, home)
    assert choice.broker is chosen
    assert choice.why


def test_no_credentials_are_shown() -> None:
    assert without_credentials("pulsar://me:secret@broker:6650") == "pulsar://broker:6650"
    assert "secret" not in choose("auto", "pulsar://me:secret@broker:6650", None).why


def test_pulsar_home_goes_before_a_directory_in_the_checkout(tmp_path: Path) -> None:
    pulsar_in(tmp_path / "apache-pulsar-4.2.4")
    assert find_home(None, tmp_path) == tmp_path / "apache-pulsar-4.2.4"
    elsewhere = pulsar_in(tmp_path / "elsewhere")
    assert find_home(elsewhere, tmp_path) == elsewhere


def test_a_directory_without_the_program_is_no_pulsar(tmp_path: Path) -> None:
    (tmp_path / "apache-pulsar-4.2.4").mkdir()
    assert find_home(None, tmp_path) is None
    with pytest.raises(CannotStart, match="has no bin/pulsar") as wrong:
        find_home(tmp_path / "apache-pulsar-4.2.4", tmp_path)
    assert wrong.value.ending is Ending.SETTING


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("pulsar://one", [("one", 6650)]),
        ("pulsar+ssl://one,two:7000", [("one", 6651), ("two", 7000)]),
        ("pulsar://[::1]:6650", [("::1", 6650)]),
        ("pulsar://me:secret@one:6650", [("one", 6650)]),
    ],
)
def test_a_service_url_may_name_several_hosts(url: str, expected: list[tuple[str, int]]) -> None:
    assert endpoints(url) == expected


@pytest.mark.parametrize("url", ["broker:6650", "pulsar://", "redis://one:1", "pulsar://one:port"])
def test_what_is_no_service_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(CannotStart, match="is no service URL"):
        endpoints(url)


def test_the_embedded_broker_is_one_process_that_does_not_see_pulsar_url(tmp_path: Path) -> None:
    ((up,),) = fleet_plan.plan(Choice(Broker.EMBEDDED, ""), StartSettings.read({}), {"PULSAR_URL": URL}, tmp_path)
    assert up.argv[-1] == "up"
    assert up.env["PULSAR_URL"] == "memory:"
    assert up.ready_urls == tuple(f"http://127.0.0.1:{port}/readyz" for port in (8081, 8082, 8083))


def test_the_gateway_is_stopped_first_and_the_broker_last(tmp_path: Path, tools: None) -> None:
    waves = fleet_plan.plan(Choice(Broker.MAVEN, ""), StartSettings.read({}), {"PULSAR_URL": URL}, tmp_path)
    started = [role.name for wave in waves for role in wave]
    assert started[::-1] == ["gateway", "node", "management", "pulsar"]
    assert {role.env["PULSAR_URL"] for role in waves[-1]} == {"pulsar://127.0.0.1:6650"}


def test_nothing_is_started_for_a_broker_of_somebody_else(tmp_path: Path) -> None:
    settings = StartSettings.read({"PULSAR_URL": URL})
    choice = Choice(Broker.EXTERNAL, "")
    (roles,) = fleet_plan.plan(choice, settings, {"PULSAR_URL": URL}, tmp_path)
    assert {role.env["PULSAR_URL"] for role in roles} == {URL}
    assert [role.name for role in roles if role.may_leave] == ["node"]
    assert [at.setting for at in fleet_plan.addresses(choice, settings)] == ["PORT", "MANAGEMENT_PORT", "NODE_PORT"]


@pytest.mark.parametrize("value", ["1e999", "nan", "86401", "0"])
@pytest.mark.parametrize("name", ["START_WAIT_S", "STOP_WAIT_S"])
def test_a_start_waits_for_a_day_at_most(name: str, value: str) -> None:
    with pytest.raises(CannotStart, match=f"{name}={value}: ") as wrong:
        StartSettings.read({name: value})
    assert wrong.value.ending is Ending.SETTING


def test_a_directory_is_run_with_our_conf_and_left_as_it_is(tmp_path: Path, tools: None) -> None:
    home = pulsar_in(tmp_path / "apache-pulsar")
    settings = StartSettings.read({"PULSAR_PORT": "16650"})
    ((broker,),) = broker_waves.waves(Choice(Broker.DIRECTORY, "", home), settings, {}, tmp_path)
    assert broker.argv[:2] == (str(home / "bin" / "pulsar"), "standalone")
    conf = parse(Path(broker.env["PULSAR_STANDALONE_CONF"]).read_text())
    assert (conf["brokerServicePort"], conf["bindAddress"]) == ("16650", "127.0.0.1")
    assert (home / "conf" / "standalone.conf").read_text() == "brokerServicePort=6650\n"


def test_a_container_of_the_broker_has_a_name_of_its_own_and_is_removed(tmp_path: Path, tools: None) -> None:
    def start(data: str) -> tuple[str, str]:
        settings = StartSettings.read({"PULSAR_DATA": data})
        (pull,), (broker,) = broker_waves.waves(Choice(Broker.DOCKER, ""), settings, {}, tmp_path)
        assert pull.once
        assert pull.argv[-1] == "apachepulsar/pulsar:4.2.4"
        name = broker.argv[broker.argv.index("--name") + 1]
        assert broker.undo == ("docker", "rm", "--force", "--volumes", name)
        assert "--rm" in broker.argv
        assert "127.0.0.1:6650:6650" in broker.argv, "it can be reached from other machines"
        volume, _, inside = broker.argv[broker.argv.index("--volume") + 1].partition(":")
        assert inside == "/pulsar/data", "what waits would end with the container"
        return name, volume

    one, other = start("one"), start("other")
    assert one[0] != other[0]
    assert one[1] != other[1]
    with pytest.raises(CannotStart, match="in use by another start"):
        start("one")


def test_an_image_that_is_there_is_not_fetched(tmp_path: Path, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "has_image", lambda image, env: image == broker_waves.IMAGE)
    ((broker,),) = broker_waves.waves(Choice(Broker.DOCKER, ""), StartSettings.read({}), {}, tmp_path)
    assert broker.argv[:2] == ("docker", "run")


def test_the_broker_settings_of_the_checkout_reach_the_container(tmp_path: Path, tools: None) -> None:
    root = Path(__file__).parents[2]
    settings = StartSettings.read({"PULSAR_DATA": str(tmp_path)})
    _, (broker,) = broker_waves.waves(Choice(Broker.DOCKER, ""), settings, {}, root)
    assert "PULSAR_PREFIX_managedLedgerNewEntriesCheckDelayInMillis=0" in broker.argv
    assert "PULSAR_PREFIX_bindAddress=0.0.0.0" in broker.argv


def test_our_image_gets_settings_by_name_and_never_by_value(
    tmp_path: Path, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").touch()
    env = {"PULSAR_URL": URL, "API_KEYS": "sk-secret", "HOME": "/root", "MODELS": ""}
    settings = StartSettings.read(env)
    choice = choose("auto", URL, None)
    (build,), (fleet,) = image.waves(choice, settings, env, tmp_path, image.setting_names())
    assert build.once
    assert "sk-secret" not in " ".join(fleet.argv)
    handed = {fleet.argv[at + 1] for at, word in enumerate(fleet.argv) if word == "--env"}
    assert handed == {"PULSAR_URL", "API_KEYS"}
    (tmp_path / "keys").write_text("sk-secret")
    (tmp_path / "keys").chmod(0o644)
    env = {"PULSAR_URL": URL, "API_KEYS_FILE": "keys", "DATABASE_URL_FILE": "/not/there"}
    _, (fleet,) = image.waves(choice, settings, env, tmp_path, image.setting_names())
    handed = {fleet.argv[at + 1] for at, word in enumerate(fleet.argv) if word in ("--env", "--volume")}
    keys = tmp_path / "keys"
    # What cannot be brought along is handed over all the same: the role says what is wrong with it, and does not open.
    assert handed == {"PULSAR_URL", "DATABASE_URL_FILE", f"API_KEYS_FILE={keys}", f"{keys}:{keys}:ro"}
    assert fleet.undo[-1] == fleet.argv[fleet.argv.index("--name") + 1]
    # One file of two variables comes along once; one that the container's user may not read is told at once.
    env = {"PULSAR_URL": URL, "API_KEYS_FILE": "keys", "MANAGEMENT_KEYS_FILE": "keys"}
    _, (fleet,) = image.waves(choice, settings, env, tmp_path, image.setting_names())
    assert fleet.argv.count("--volume") == 1
    keys.chmod(0o600)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(CannotStart, match=r"may not read .*keys \(API_KEYS_FILE\)"):
        image.waves(choice, settings, env, tmp_path, image.setting_names())


def test_the_files_of_settings_come_along_too(tmp_path: Path, tools: None) -> None:
    (tmp_path / "Dockerfile").touch()
    env = {"PULSAR_URL": URL}
    names = (
        "SSL_CERTFILE",
        "SSL_KEYFILE",
        "MANAGEMENT_SSL_CERTFILE",
        "PULSAR_TLS_TRUST_CERTS",
        "TOKENIZER",
        "MODELS_FILE",
    )
    for name in names:
        (tmp_path / name).touch(0o644)
        env[name] = name
    _, (fleet,) = image.waves(choose("auto", URL, None), StartSettings.read(env), env, tmp_path, image.setting_names())
    mounted = {fleet.argv[at + 1] for at, word in enumerate(fleet.argv) if word == "--volume"}
    assert mounted == {f"{tmp_path / name}:{tmp_path / name}:ro" for name in names}


def test_a_broker_of_ours_cannot_be_started_from_a_container(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="set PULSAR_URL instead"):
        image.waves(Choice(Broker.MAVEN, ""), StartSettings.read({}), {}, tmp_path, {})


def test_a_checkout_in_a_path_with_spaces_keeps_its_messages_elsewhere(tmp_path: Path) -> None:
    checkout = tmp_path / "my checkout"
    assert data_directory(None, tmp_path, {}) == tmp_path / "data" / "pulsar"
    moved = data_directory(None, checkout, {"XDG_STATE_HOME": str(tmp_path)})
    assert moved.is_relative_to(tmp_path / "workernode")
    with pytest.raises(CannotStart, match="path with spaces"):
        data_directory(Path("my data"), checkout, {})


def test_a_directory_is_of_one_start_at_a_time(tmp_path: Path) -> None:
    hold(tmp_path / "data")
    with pytest.raises(CannotStart, match="is in use by another start"):
        hold(tmp_path / "data")  # another description of the file, as another process would have
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"PULSAR_DATA: .* cannot be written"):
        hold(tmp_path / "file" / "data")


def test_a_directory_that_cannot_be_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CannotStart, match=r"PULSAR_DATA: .* cannot be locked: No locks available"):
        hold(tmp_path)


def test_a_full_disk_below_the_brokers_settings_is_told(tmp_path: Path, tools: None) -> None:
    home = pulsar_in(tmp_path / "apache-pulsar")
    data = tmp_path / "data" / "pulsar"
    data.mkdir(parents=True)
    (data / "standalone.conf").symlink_to("/dev/full")
    with pytest.raises(CannotStart, match=r"standalone.conf cannot be made of .*: No space left on device") as problem:
        broker_waves.waves(Choice(Broker.DIRECTORY, "", home), StartSettings.read({}), {}, tmp_path)
    assert problem.value.ending is Ending.SETTING


@pytest.mark.parametrize(
    ("said", "fits"), [('openjdk version "17.0.13"', True), ('java version "1.8.0_1"', False), ("?", True)]
)
def test_an_old_java_is_told_before_it_fails(tmp_path: Path, said: str, fits: bool) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    env = {"JAVA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    if fits:
        java.require_java(env)
    else:
        with pytest.raises(CannotStart, match=r"Java is too old .* version 1.*OpenJDK 17"):
            java.require_java(env)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "static"),
        ({"NODE_TYPE": "local", "MODEL_PATH": "/m/qwen.gguf"}, "qwen"),
        ({"NODE_TYPE": "local", "MODEL_PATH": "org/qwen", "MODEL_NAME": "q"}, "q"),
    ],
)
def test_the_command_to_try_names_the_model_that_is_served(env: dict[str, str], name: str) -> None:
    assert f'"model": "{name}"' in "\n".join(greeting(StartSettings.read(env)))


def test_settings_replace_those_of_a_conf_file_or_are_added() -> None:
    text = "# a=1\na=1\nb = 2\n"
    assert with_settings(text, {"a": "3", "b": "4", "c": "5"}) == "# a=1\na=3\nb=4\nc=5\n"
    assert parse(text) == {"a": "1", "b": "2"}


def test_the_real_environment_goes_before_env_local_before_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=env\nB=env\nC=env\n# D=1\nE='$B c'\n")
    (tmp_path / ".env.local").write_text("A=local\nB=local\n")
    assert complete({"A": "real"}, tmp_path) == {"A": "real", "B": "local", "C": "env", "E": "$B c"}


def test_a_line_without_a_value_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEYS\n")
    with pytest.raises(CannotStart, match=r"\.env, line 1: API_KEYS has no value"):
        complete({}, tmp_path)


@pytest.mark.parametrize("line", ['API_KEYS="abcdefghijk', "API_KEYS: abc", "FOO BAR=1"])
def test_a_line_that_cannot_be_read_is_no_line_to_pass_over(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"PORT=1\n{line}\nHOST=h\n")
    with pytest.raises(CannotStart, match=r"\.env, line 2: it is no KEY=VALUE"):
        complete({}, tmp_path)


def test_a_file_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"API_KEYS=caf\xe9longkey\n")
    with pytest.raises(CannotStart, match=r"\.env cannot be read"):
        complete({}, tmp_path)


def test_an_empty_variable_does_not_take_away_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEYS=a:b\n")
    assert complete({"API_KEYS": " ", "PORT": ""}, tmp_path) == {"API_KEYS": "a:b", "PORT": ""}


def test_blanks_are_no_setting() -> None:
    settings = StartSettings.read({"PULSAR_URL": " ", "API_KEYS": "\t", "HOST": " 127.0.0.1 "})
    assert (settings.pulsar_url, settings.has_keys, settings.host) == (None, False, "127.0.0.1")


def test_the_command_to_try_takes_the_key_from_a_variable() -> None:
    assert "GATEWAY_KEY" not in "".join(greeting(StartSettings.read({})))
    said = "\n".join(greeting(StartSettings.read({"API_KEYS": "sk-secret", "HOST": "0.0.0.0", "PORT": "9000"})))
    assert '"Authorization: Bearer $GATEWAY_KEY"' in said
    assert "http://127.0.0.1:9000/v1/chat/completions" in said
    assert "sk-secret" not in said
    assert "keys create" not in said


def test_who_has_a_database_of_keys_hears_how_one_is_made() -> None:
    said = "\n".join(greeting(StartSettings.read({"DATABASE_URL": "postgresql+asyncpg://u:secret@host/db"})))
    assert "fleet keys create NAME" in said
    assert '"Authorization: Bearer $GATEWAY_KEY"' in said
    assert "secret" not in said


def test_the_addresses_are_those_of_the_page_and_of_tls() -> None:
    assert "page:  http://127.0.0.1:8081/" in greeting(StartSettings.read({}))
    said = "\n".join(greeting(StartSettings.read({"SSL_CERTFILE": "/a b/c.pem", "SSL_KEYFILE": "k.pem"})))
    assert "curl -s --cacert '/a b/c.pem' https://127.0.0.1:8081/v1/chat/completions" in said
    assert "page:  https://127.0.0.1:8081/" in said
    assert "management http://127.0.0.1:8082" in said


def test_every_role_has_a_share_of_the_time_to_stop_and_all_of_them_no_more_than_the_whole() -> None:
    shares = [share(40.0, index, 4) for index in range(4)]
    assert shares == [10.0, 20.0, 30.0, 40.0]
