from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.golden.events import EVENTS
from tests.golden.lines import CONTROLS, FRAMES, LINKS
from tests.golden.presences import BACKLOGS, PRESENCES, ROLL_CALLS
from tests.golden.requests import DEAD_LETTERS, REQUESTS
from wire.control import Word
from wire.piece import Frame
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docs" / "asyncapi.yaml"


def _script() -> ModuleType:
    path = str(ROOT / "scripts" / "asyncapi")
    loader = importlib.machinery.SourceFileLoader("asyncapi_script", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def _resolve(document: dict[str, Any], ref: str) -> Any:
    value: Any = document
    assert ref.startswith("#/"), ref
    for step in ref[2:].split("/"):
        value = value[step]
    return value


def test_the_file_is_what_the_structs_give() -> None:
    assert FILE.read_text() == _script().rendered(), "run python scripts/asyncapi"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    refs = set(_refs(document))
    assert refs
    for ref in refs:
        assert isinstance(_resolve(document, ref), dict)


def test_the_document_has_the_structure_of_asyncapi_3(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for channel in document["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert re.fullmatch(r"#/channels/\w+", channel)
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
    for message in document["components"]["messages"].values():
        assert {"name", "contentType", "payload"} <= message.keys()


def test_every_channel_and_message_is_used(document: dict[str, Any]) -> None:
    refs = set(_refs(document))
    assert {f"#/channels/{name}" for name in document["channels"]} <= refs
    assert {f"#/components/messages/{name}" for name in document["components"]["messages"]} <= refs
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} <= refs


def test_the_addresses_are_those_of_the_topics(document: dict[str, Any]) -> None:
    topics = Topics()
    values = {"tenant": "public", "requests": "default", "links": "default", "results": "default"}
    values |= {"model": "gpt-4o", "gateway": "gateway-1", "node": "node-1"}
    addresses = {name: channel["address"].format(**values) for name, channel in document["channels"].items()}
    assert addresses == {
        "requests": topics.requests("gpt-4o"),
        "link": topics.link("gateway-1"),
        "control": topics.control("node-1"),
        "presence": topics.presence,
        "rollCall": topics.roll_call,
        "backlog": topics.backlog,
        "orders": topics.orders,
        "results": topics.results,
        "deadLetters": topics.dead_letters("gpt-4o"),
    }


def test_every_word_and_frame_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for word in (*get_args(Word), *get_args(Frame)):
        assert word.__name__ in schemas


def _family(name: str) -> str:
    own = {"event.gateway.accepted": "AcceptedEvent", "event.request.prompt": "PromptEvent"}
    return own.get(name, f"{name.split('.')[1].title()}Event")


EXAMPLES = [
    *(("Request", word) for word in REQUESTS.values()),
    *(("DeadLetter", word) for word in DEAD_LETTERS.values()),
    *(("Frame", frame) for frame in FRAMES.values()),
    *(("Echo" if name == "echo" else "LinkMessage", word) for name, word in LINKS.items()),
    *(("ControlMessage", word) for word in CONTROLS.values()),
    *(("Presence", word) for word in PRESENCES.values()),
    *(("RollCall", word) for word in ROLL_CALLS.values()),
    *(("BacklogReport", word) for word in BACKLOGS.values()),
    *((_family(name), word) for name, word in EVENTS.items()),
]


@pytest.mark.parametrize(("name", "word"), EXAMPLES)
def test_every_golden_example_fits_its_schema(document: dict[str, Any], name: str, word: Any) -> None:
    builtins = msgspec.json.decode(msgspec.json.encode(_readable(word)))
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(schema).validate(builtins)


def test_a_word_that_lacks_a_field_does_not_fit(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Request", "components": document["components"]}
    assert not Draft202012Validator(schema).is_valid({"kind": "request", "request_id": "req_1"})


def _readable(word: Any) -> Any:
    """Messages carry frames and words as MessagePack within MessagePack; JSON needs them read."""
    builtins = msgspec.to_builtins(word, builtin_types=(msgspec.Raw,))
    carried = {"link": "frames", "control": "words"}.get(builtins.get("kind"))
    if carried is not None:
        builtins[carried] = [msgspec.msgpack.decode(bytes(raw)) for raw in getattr(word, carried)]
    return builtins
