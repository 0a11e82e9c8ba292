"""Chat templates say what they say in transformers, where each of these was rendered too."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, room_of
from workernode.local.server.ending import CannotServe
from workernode.local.server.front.asked import Message
from workernode.local.server.front.template import ChatTemplate

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = [
    {"role": "user", "content": '<é> "q" \''},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "3"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "é<"}}]


def rendered(template: str, **names: Any) -> str:
    return ChatTemplate(template).render(MESSAGES, tools=TOOLS, begins=True, names={"bos_token": "<s>", **names})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n[{{ m.content }}]\n  {% endif %}\n{% endfor %}\nend",
            '[<é> "q" \']\n[3]\nend',
        ),
        ("{{- bos_token }}x\n\n{#- c #}\ny\n", "<s>xy"),
        ("{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
        (
            "{% for m in messages %}{% if not loop.index0 %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
            "two3",
        ),
        ("a{% generation %}{{ messages[1].content }}{% endgeneration %}b", "atwob"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<é> \\"q\\" \'"}'),
        (
            "{{ tools | tojson(indent=1) }}",
            '[\n {\n  "type": "function",\n  "function": {\n   "name": "f",\n   "description": "é<"\n  }\n }\n]',
        ),
        (
            "{{ {'b': 1, 'a': '<é>'} | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=true) }}",
            '{"a":"<\\u00e9>","b":1}',
        ),
        ("{{ {'b': 1, 'a': 2} | tojson }}", '{"b": 1, "a": 2}'),
        ("{{ documents is none }} {{ add_generation_prompt }}", "True True"),
    ],
)
def test_a_template_says_what_it_says_in_transformers(template: str, expected: str) -> None:
    assert rendered(template) == expected


def test_a_template_knows_the_day() -> None:
    def today() -> str:
        return datetime.datetime.now().astimezone().date().isoformat()

    before = today()
    assert before <= rendered("{{ strftime_now('%Y-%m-%d') }}") <= today()


def test_a_template_may_refuse_in_its_own_words() -> None:
    with pytest.raises(TemplateError, match="No system here"):
        rendered("{{ raise_exception('No system here') }}")


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"])
def test_a_template_reaches_nothing_but_what_it_is_given_and_changes_nothing(template: str) -> None:
    with pytest.raises(SecurityError):
        rendered(template)


def test_a_template_that_cannot_be_read_is_told_in_one_sentence() -> None:
    with pytest.raises(
        CannotServe, match=r"^The chat template cannot be read: [^.]*end of print statement'\.$"
    ) as raised:
        room_of(ready(chat_template="{{ messages"), ScriptedSteps())
    assert raised.value.kind == "usage"


def test_a_template_of_the_settings_wins_written_out_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("mine: {{ messages[0].content }} {{ tools }}")
    known = ready(chat_template="theirs", tool_template="theirs, for tools")
    for setting in (str(file), file.read_text()):
        tokens = room_of(known, ScriptedSteps(), "--chat-template", setting).tokens
        assert tokens.tool_template == file.read_text()
        assert tokens.text(tokens.of_messages([Message("user", "hi")], None).tokens) == "mine: hi None"
    for setting in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(CannotServe, match="is neither a template nor a file with one") as raised:
            room_of(known, ScriptedSteps(), "--chat-template", setting)
        assert raised.value.kind == "usage"
