"""What can be told of the images and the composition without a container engine."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click import Context

from fleet.__main__ import main
from fleet.start.health import address, roles
from gateway.settings import GatewaySettings
from management.settings import ManagementSettings
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from process.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "controller", "fleet", "gateway", "management", "process", "store", "wire", "workernode")
SECRET = re.compile(r"(?i)(password|secret|token|api_?keys?)\s*=\s*\S")


@dataclass
class Stage:
    """One stage of the Dockerfile; `lines` are its instructions, those of the stages it is built from first."""

    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        return next((rest for said, rest in reversed(self.lines) if said == word), None)

    def all(self, word: str) -> list[str]:
        return [rest for said, rest in self.lines if said == word]


def parse(text: str) -> list[Stage]:
    """The stages in their order."""
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(name, base, list(stages[base].lines) if base in stages else [])
        else:
            stages[list(stages)[-1]].lines.append((word, rest.strip()))
    return list(stages.values())


STAGES = parse((ROOT / "Dockerfile").read_text())
FINAL = [stage for stage in STAGES if stage.name in ("workernode", "workernode-local")]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def sources(stage: Stage) -> list[str]:
    """What the stage copies from the checkout."""
    words = [shlex.split(copied) for copied in stage.all("COPY")]
    return [one for some in words if not any(w.startswith("--from") for w in some) for one in some[:-1]]


def is_pinned(image: str) -> bool:
    """Whether the image is named with a tag other than latest."""
    name, _, tag = image.rpartition(":")
    return bool(name) and tag != "latest" and any(character.isdigit() for character in tag)


def test_the_image_without_torch_is_what_is_built_by_default() -> None:
    assert STAGES[-1].name == "workernode"
    assert {stage.name for stage in FINAL} == {"workernode", "workernode-local"}
    locked = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in ("runtime", "local")}
    assert not re.search(r"^torch==", locked["runtime"], re.M)
    assert re.search(r"^torch==", locked["local"], re.M)
    assert "--from=dependencies /opt/venv" in str(FINAL[1].all("COPY"))
    assert "--from=dependencies-local /opt/venv" in str(FINAL[0].all("COPY"))


@pytest.mark.parametrize("stage", FINAL, ids=lambda stage: stage.name)
def test_a_final_image_runs_a_role_in_exec_form_as_somebody_who_is_not_root(stage: Stage) -> None:
    assert stage.last("USER") == "10001:10001"
    assert json.loads(stage.last("ENTRYPOINT") or "") == ["python", "-m", "fleet"]
    assert json.loads(stage.last("CMD") or "") == ["container"]
    assert "container" in main.list_commands(Context(main))
    check = stage.last("HEALTHCHECK") or ""
    assert json.loads(check[check.index("CMD") + 3 :]) == ["python", "-m", "fleet.start.health"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_begins_at_a_pinned_image_or_an_earlier_stage(stage: Stage) -> None:
    earlier = {one.name for one in STAGES[: STAGES.index(stage)]}
    assert stage.base in earlier or is_pinned(stage.base)
    for copied in stage.all("COPY"):
        assert set(re.findall(r"--from=(\S+)", copied)) <= earlier


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_keeps_the_rules_that_can_be_read_from_it(stage: Stage) -> None:
    assert not stage.all("ADD"), "COPY says what it does"
    assert not stage.all("MAINTAINER")
    assert all(place.startswith("/") for place in stage.all("WORKDIR"))
    for command in stage.all("RUN"):
        assert "sudo " not in command
        if "apt-get install" in command:
            assert "rm -rf /var/lib/apt/lists" in command
            assert "--no-install-recommends" in command
        if "pip install" in command:
            assert "--require-hashes" in command
            assert "--mount=type=cache" in command
    for word in ("ENV", "ARG", "LABEL", "RUN"):
        assert not any(SECRET.search(rest) for rest in stage.all(word)), "a secret would stay in the image"


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for stage in STAGES:
        for source in sources(stage):
            path = source.rstrip("/")
            assert (ROOT / path).exists(), source
            ignored = False
            for rule in rules:
                if fnmatch(path, rule.lstrip("!")) or fnmatch(path.partition("/")[0], rule.lstrip("!")):
                    ignored = not rule.startswith("!")
            assert not ignored, source


def test_every_package_is_in_the_image() -> None:
    assert {source.rstrip("/") for source in sources(FINAL[0])} >= set(PACKAGES)


def test_every_image_of_the_composition_is_pinned_or_built_here() -> None:
    for name, service in COMPOSE["services"].items():
        assert is_pinned(service["image"]) or service["build"]["target"] == "workernode", name


def test_every_service_of_ours_runs_a_role_with_settings_that_it_knows() -> None:
    settings: dict[str, type[Settings]] = {
        "gateway": GatewaySettings,
        "management": ManagementSettings,
        "node": NodeSettings,
    }
    for name, known in settings.items():
        service = COMPOSE["services"][name]
        assert service["command"] == [name]
        assert name in main.list_commands(Context(main))
        assert {variable.lower() for variable in service["environment"]} <= set(known.model_fields)


def test_a_service_waits_until_what_it_needs_is_healthy() -> None:
    services = COMPOSE["services"]
    needs = {"gateway": {"pulsar", "postgres"}, "node": {"pulsar"}, "management": {"pulsar", "postgres"}}
    for name, needed in needs.items():
        waits = services[name]["depends_on"]
        assert {one for one, how in waits.items() if how == {"condition": "service_healthy"}} == needed
        assert all("healthcheck" in services[one] for one in needed)


def test_the_composition_holds_no_secret_and_opens_no_port_to_other_machines() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for variable in ("API_KEYS", "MANAGEMENT_KEY", "POSTGRES_PASSWORD"):
        assert re.search(rf"^ +{variable}: \$\{{{variable}:\?", text, re.M), f"{variable} must come from outside"
    assert "ALLOW_ANONYMOUS" not in text
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert COMPOSE["services"]["management"]["environment"]["DATABASE_URL"].startswith("postgresql+asyncpg://")


def test_the_broker_gets_the_settings_of_the_checkout() -> None:
    mounted = COMPOSE["services"]["pulsar"]["volumes"][0].split(":")[0]
    assert (ROOT / mounted).is_file()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "-m", "fleet", "container", ""], ("gateway", "node")),
        (["python", "-m", "fleet", "container", "node"], ("node",)),
        (["python", "-m", "fleet", "gateway"], ("gateway",)),
        (["python", "-m", "fleet", "up"], ("gateway", "management", "node")),
        (["python", "-m", "fleet", "doctor"], ()),
        (["bash"], ()),
    ],
)
def test_the_health_check_asks_the_roles_of_this_container(argv: list[str], expected: tuple[str, ...]) -> None:
    assert roles(argv) == expected


def test_the_health_check_asks_where_the_role_listens() -> None:
    assert address("gateway", {}).url == "http://127.0.0.1:8081"
    assert address("management", {"MANAGEMENT_HOST": "0.0.0.0", "MANAGEMENT_PORT": "9"}).url == "http://127.0.0.1:9"
    assert address("node", {"NODE_HOST": "::"}).url == "http://[::1]:8083"
    blank = {"HOST": "0.0.0.0 ", "PORT": " ", "SSL_CERTFILE": " "}  # a file for `docker run --env-file` is not trimmed
    assert address("gateway", blank).url == "http://127.0.0.1:8081"
    certificates = {"SSL_CERTFILE": "a.pem", "MANAGEMENT_SSL_CERTFILE": "b.pem"}
    for role, expected in (("gateway", "a.pem"), ("management", "b.pem"), ("node", None)):
        at = address(role, certificates)
        assert at.certificate == (Path(expected) if expected else None)
        assert at.url.startswith("https://" if expected else "http://")
