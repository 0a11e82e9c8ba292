"""From a conversation to the text that the model reads, by the template that there is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer, processors

from tests.model_ready import ready
from workernode.local.server.flags import read as read_flags
from workernode.local.server.front.asked import Chat, read
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tokens import Prompt, Tokens
from workernode.local.server.front.tools import HERMES, format_of

PLAIN = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
TOOL: Any = {"type": "function", "function": {"name": "f"}}


def rendered(tokens: Tokens, *messages: tuple[str, str], **fields: Any) -> str:
    """The prompt as text."""
    listed = [{"role": role, "content": content} for role, content in messages]
    asked = read(msgspec.json.encode({"messages": listed, **fields}), Chat)
    return tokens.text(tokens.of_chat(asked).tokens)


def made(template: str = PLAIN, **fields: Any) -> Tokens:
    return Tokens(ready(chat_template=template, **fields), read_flags(["--model", "m"], {}))


def test_a_developers_message_is_the_systems_where_the_template_does_not_know_it() -> None:
    messages = (("developer", "be brief"), ("user", "hi"))
    of_roles = "{% for message in messages if message.role in ('system', 'user') %}[{{ message.content }}]{% endfor %}"
    assert rendered(made(of_roles), *messages) == "[be brief][hi]"
    knowing = PLAIN + "{# developer #}"
    assert rendered(made(knowing), *messages) == "[developer]be brief[user]hi"


def test_of_two_templates_the_one_for_tools_is_for_requests_with_them() -> None:
    tokens = made(tool_template="{{ tools | length }} <tool_call>")
    assert rendered(tokens, ("user", "hi")) == "[user]hi"
    assert rendered(tokens, ("user", "hi"), tools=[TOOL]) == "1 <tool_call>"
    assert rendered(tokens, ("user", "hi"), tools=[TOOL], tool_choice="none") == "[user]hi"
    assert format_of(tokens.tool_template) is HERMES
    own = Tokens(
        ready(tool_template="<tool_call>"), read_flags(["--model", "m", "--chat-template", PLAIN + "{{ 1 }}"], {})
    )
    assert own.tool_template == PLAIN + "{{ 1 }}"


def test_tools_of_another_type_than_functions_are_refused_and_not_called_as_functions() -> None:
    custom: Any = {"type": "custom", "custom": {"name": "f", "description": "Anything."}}
    tokens = made("{{ tools | length }} <tool_call>")
    with pytest.raises(Problem, match="of the type function only") as raised:
        rendered(tokens, ("user", "hi"), tools=[TOOL, custom])
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "tools")
    assert rendered(tokens, ("user", "hi"), tools=[{"function": {"name": "f"}}]) == "1 <tool_call>"


@pytest.mark.parametrize(
    ("name", "value"), [("function_call", {"name": "f", "arguments": "{}"}), ("audio", {"id": "audio_1"})]
)
def test_what_a_message_holds_that_no_template_is_given_is_refused_and_null_is_nothing(name: str, value: Any) -> None:
    def read_with(given: Any) -> Prompt:
        said = {"role": "assistant", "content": "a", name: given}
        return made().of_chat(read(msgspec.json.encode({"messages": [said]}), Chat))

    assert made().text(read_with(None).tokens) == "[assistant]a"
    with pytest.raises(Problem, match=f"reads no {name}") as raised:
        read_with(value)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", f"messages[0].{name}")


@pytest.mark.parametrize("name", ["audio", "functions", "function_call", "moderation", "modalities", "verbosity", "x"])
def test_an_option_that_is_not_supported_may_be_written_down_as_null(name: str) -> None:
    assert rendered(made(), ("user", "hi"), **{name: None}) == "[user]hi"
    with pytest.raises(Problem, match=f"does not support '{name}'") as raised:
        rendered(made(), ("user", "hi"), **{name: "anything"})
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", name)


def test_options_that_change_no_text_may_be_there() -> None:
    options = {
        **{"prompt_cache_options": {"mode": "implicit"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        **{"prediction": {"type": "content", "content": "hi"}, "safety_identifier": "s", "user": "u", "suffix": ""},
        **{"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "best_of": 1},
        **{"modalities": ["text"], "verbosity": "medium"},
    }
    assert rendered(made(), ("user", "hi"), **options) == "[user]hi"
    for name, value in {"suffix": "x", "modalities": ["audio"], "verbosity": "low"}.items():
        with pytest.raises(Problem, match=f"does not support '{name}'"):
            rendered(made(), ("user", "hi"), **{name: value})


def test_the_effort_of_reasoning_is_the_templates_affair_if_it_knows_it() -> None:
    knowing = made("{{ reasoning_effort }}")
    assert rendered(knowing, ("user", "hi"), reasoning_effort="low") == "low"
    with pytest.raises(Problem, match="does not support 'reasoning_effort'") as raised:
        rendered(made(), ("user", "hi"), reasoning_effort="low")
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "reasoning_effort")


def test_a_conversation_without_a_message_is_refused() -> None:
    with pytest.raises(Problem) as raised:
        read(b'{"messages": []}', Chat)
    assert raised.value.param == "messages"


def test_a_list_without_calls_or_tools_is_none_to_a_template() -> None:
    """Clients send such lists, or send them back. Llama's template looks whether there is one."""
    template = (
        "{% if tools is not none %}tools{% endif %}{% for each in messages if 'tool_calls' in each %}calls{% endfor %}"
    )

    def read_with(calls: Any, tools: Any) -> str:
        said = {"role": "assistant", "content": "a", "tool_calls": calls}
        asked = read(msgspec.json.encode({"messages": [said], "tools": tools}), Chat)
        return made(template).text(made(template).of_chat(asked).tokens)

    assert read_with([], []) == read_with(None, None) == ""
    assert read_with([TOOL], [TOOL]) == "toolscalls"


def test_arguments_too_deep_to_be_read_are_refused() -> None:
    deep = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 100_000}}]}
    asked = read(msgspec.json.encode({"messages": [deep]}), Chat)
    with pytest.raises(Problem, match="The arguments are no JSON") as raised:
        made().of_chat(asked)
    assert raised.value.param == "messages[0].tool_calls"


def test_a_templates_settings_may_be_any_json() -> None:
    settings = {"deep": {"list": [1, 2.5, None]}, "count": 3}
    template = "{{ deep.list[1] }} {{ count + 1 }} {{ deep.list[2] is none }}"
    assert rendered(made(template), ("user", "hi"), chat_template_kwargs=settings) == "2.5 4 True"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt"])
def test_a_templates_settings_take_no_fields_place(name: str) -> None:
    with pytest.raises(Problem, match=f"chat_template_kwargs cannot set {name}: the request has it") as raised:
        rendered(made(), ("user", "hi"), chat_template_kwargs={name: 5})
    assert raised.value.param == "chat_template_kwargs"


def test_a_templates_settings_may_have_the_names_of_our_own_code() -> None:
    settings = {"begins": 5, "names": 6}
    assert rendered(made("{{ begins }} {{ names }}"), ("user", "hi"), chat_template_kwargs=settings) == "5 6"


def test_the_models_tokens_are_those_below_the_size_of_its_vocabulary() -> None:
    """The next one would end the steps of all: there is no row for it."""
    of_a = Tokens(ready(), read_flags(["--model", "m"], {})).of_text("a")[0]
    assert made(vocabulary=of_a + 1).of_text("a") == [of_a]
    with pytest.raises(Problem, match="and the model does not"):
        made(vocabulary=of_a).of_text("a")


@pytest.mark.parametrize(
    ("names", "first"), [({"bos_token": "<s>", "eos_token": "</s>"}, "<s>"), ({"eos_token": "</s>"}, "</s>")]
)
def test_an_empty_text_begins_with_the_token_that_there_is(names: dict[str, str], first: str) -> None:
    tokens = made(special_tokens=names)
    assert tokens.or_begin([]) == list(tokens.ids_of(first))
    with pytest.raises(Problem, match="no token that begins a text"):
        made(special_tokens={}).or_begin([])


def test_only_an_assistants_message_is_continued() -> None:
    with pytest.raises(Problem) as raised:
        rendered(made(), ("user", "hi"), continue_final_message=True)
    assert raised.value.param == "continue_final_message"


def test_nothing_is_added_to_a_conversation_and_no_text_is_cut_or_padded() -> None:
    """Files of tokenizers may say all three; a template writes its own first token."""
    tokenizer = Tokenizer.from_str(ready().tokenizer)
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=32)
    tokens = made(tokenizer=tokenizer.to_str())
    text = [tokenizer.token_to_id(char) for char in "longer"]
    assert tokens.of_text("longer") == [begin, *text]
    asked = read(msgspec.json.encode({"messages": [{"role": "user", "content": "longer"}]}), Chat)
    assert tokens.of_chat(asked).tokens[-len(text) :] == text
    assert begin not in tokens.of_chat(asked).tokens


def test_tools_are_refused_where_the_template_would_leave_them_out() -> None:
    with pytest.raises(Problem) as raised:
        rendered(made(), ("user", "hi"), tools=[TOOL])
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "tools")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported\nat all') }}", "System role not supported"),
        ("{{ raise_exception('x' * 300) }}", "x" * 200),
        ("{{ messages[0].content + 5 }}", "they have the wrong form"),
        ("{{ 1 / 0 }}", "they have the wrong form"),
    ],
)
def test_what_a_template_refuses_is_told_in_its_words_if_it_has_any(template: str, reason: str) -> None:
    """Gemma's knows no system, for one."""
    with pytest.raises(Problem) as raised:
        rendered(made(template), ("system", "hi"))
    assert raised.value.message == f"The chat template refuses these messages: {reason}."
    assert (raised.value.status, raised.value.param) == (400, "messages")


def test_without_a_template_there_are_no_chats() -> None:
    tokens = Tokens(ready(), read_flags(["--model", "m"], {}))
    assert not tokens.chats
    assert made().chats
    with pytest.raises(Problem, match="CHAT_TEMPLATE") as raised:
        rendered(tokens, ("user", "hi"))
    assert (raised.value.status, raised.value.code) == (400, "no_chat_template")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "[user]a"),
        (None, "[user]"),
        ([], "[user]"),
        ([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "[user]a b"),
    ],
)
def test_a_message_is_a_text_or_several(content: Any, text: str) -> None:
    asked = read(msgspec.json.encode({"messages": [{"role": "user", "content": content}]}), Chat)
    tokens = made()
    assert tokens.text(tokens.of_chat(asked).tokens) == text


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (5, "invalid_value"),
        ({"type": "text", "text": "a"}, "invalid_value"),
        (["a"], "unsupported_parameter"),
        ([{"type": "text"}], "unsupported_parameter"),
        ([{"type": "input_audio", "text": "a"}], "unsupported_parameter"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "unsupported_parameter"),
    ],
)
def test_what_is_no_text_in_a_message_is_refused(content: Any, code: str) -> None:
    listed = [{"role": "user", "content": "a"}, {"role": "user", "content": content}]
    with pytest.raises(Problem) as raised:
        made().of_chat(read(msgspec.json.encode({"messages": listed}), Chat))
    assert (raised.value.code, raised.value.param) == (code, "messages[1].content")
