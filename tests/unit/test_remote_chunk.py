"""Chunks keep every byte that is not ours, and are read for text, finish reasons and usage."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workernode.outcome import Refused
from workernode.remote.chunk import CHOICES_MAX, HELD_BYTES_MAX, Chunks, identity
from workernode.remote.dialects.choices import STREAM_CALLS_MAX
from workernode.remote.errors import Failure

OWN = identity(answer_id="chatcmpl-ours", created_s=7, model="ours")
NAMES = st.text(max_size=8).filter(
    lambda name: name not in (*OWN, "usage", "error", "choices", "message", "detail", "x_groq")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def chunk(delta: Any = None, finish: str | None = None, *, index: int = 0, **others: Any) -> bytes:
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return json.dumps({"id": "theirs", "created": 1, "model": "theirs", "choices": [choice], **others}).encode()


def chunks(*, usage_asked: bool = False) -> Chunks:
    return Chunks(OWN, usage_asked=usage_asked, key=None)


def one(payload: bytes, *, usage_asked: bool = False) -> dict[str, Any]:
    lines = chunks(usage_asked=usage_asked).take([payload])
    assert lines.count(b"\n") == 1
    parsed: dict[str, Any] = json.loads(lines)
    return parsed


@given(
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    st.booleans(),
    st.integers(0, 3),
)
def test_unknown_fields_pass_byte_for_byte(
    fields: dict[str, Any], separators: tuple[str, str], ascii_only: bool, place: int
) -> None:
    choices = [{"index": 0, "delta": {"role": "assistant", "content": "x", "unknown": fields}, "finish_reason": None}]
    items = list(fields.items())
    payload = dict(items[:place]) | {"id": "a", "choices": choices, "model": "b", "created": 1} | dict(items[place:])
    try:
        data = json.dumps(payload, separators=separators, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate has no bytes
    taken = chunks()
    line = taken.take([data])
    assert taken.failure is None
    given_, got = (msgspec.json.decode(d, type=dict[str, msgspec.Raw]) for d in (data, line))
    for name, raw in given_.items():
        if name not in OWN:
            assert bytes(got[name]) == bytes(raw)
    assert list(got) == [*given_, "object"]
    assert (got["id"], got["created"], got["model"]) == (OWN["id"], OWN["created"], OWN["model"])


def test_numbers_and_escapes_keep_their_spelling() -> None:
    choices = b'[{"index":0, "delta":{"content":"\\u00e9\\/"},"p":1.0e0}]'
    data = b'{"id":"a", "choices": %b,"z":-0.10}' % choices
    found = chunks()
    found.take([chunk({"role": "assistant"})])
    assert found.take([data, data]) == 2 * (
        b'{"id":"chatcmpl-ours","choices":%b,"z":-0.10,"object":"chat.completion.chunk","created":7,"model":"ours"}\n'
        % choices
    )


def test_a_number_that_no_float_can_hold_passes_as_it_is() -> None:
    choices = b'[{"index":0,"delta":{"role":"assistant","content":"a"},"p":-1E400}]'
    taken = chunks()
    line = taken.take([b'{"choices":%b}' % choices])
    assert choices in line
    assert taken.speaking


def test_what_differs_before_or_after_the_choices_passes_as_it_is() -> None:
    said = [("1", "1"), ("1", "1"), ("2", "1"), ("1", "2"), ("1", "1")]
    choices = b'[{"index":0,"delta":{"role":"assistant","content":"a"}}]'
    lines = chunks().take([b'{"x":"%b","choices":%b,"y":"%b"}' % (x.encode(), choices, y.encode()) for x, y in said])
    assert [(each["x"], each["y"]) for each in map(json.loads, lines.splitlines())] == said


def test_a_chunk_over_several_lines_becomes_one_line() -> None:
    taken = chunks()
    lines = taken.take([b'{\n"choices":\n[{"index":0,\n"delta":{"content":"a\\nb"}}]}'])
    assert lines.count(b"\n") == 1
    assert json.loads(lines)["choices"][0]["delta"]["content"] == "a\nb"


def test_usage_that_was_not_asked_for_is_taken_out() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    taken = chunks()
    lines = taken.take(
        [
            chunk({"content": "a"}, usage=None),
            chunk({}, "stop", usage=usage),
            json.dumps({"choices": [], "usage": usage}).encode(),
        ]
    )
    assert lines.count(b"\n") == 2
    assert b"usage" not in lines
    assert taken.usage is not None
    assert json.loads(bytes(taken.usage)) == usage


def test_usage_that_was_asked_for_comes_once_and_last_whatever_the_upstream_does() -> None:
    usage = msgspec.Raw(b'{"prompt_tokens": 1,"x":1.0}')
    ways = [
        [chunk({"content": "a"}), chunk({}, "stop"), b'{"id":"t","choices":[],"usage":' + bytes(usage) + b',"fp":"f"}'],
        [chunk({"content": "a"}), chunk({}, "stop")[:-1] + b',"usage":' + bytes(usage) + b"}"],
        [chunk({"content": "a"}, usage={"prompt_tokens": 1}), chunk({}, "stop", usage=None)],
    ]
    for payloads in ways:
        taken = chunks(usage_asked=True)
        lines = taken.take([*payloads, b"[DONE]"]).splitlines()
        assert taken.done
        assert [json.loads(line)["usage"] for line in lines] == [None, None]
        last = taken.last(usage)
        assert b'"choices":[],' in last
        assert b'"usage":{"prompt_tokens": 1,"x":1.0}' in last
        assert (json.loads(last)["id"], json.loads(last)["model"]) == ("chatcmpl-ours", "ours")
        assert last.endswith(b"}\n")


def test_an_empty_list_of_choices_without_usage_is_no_usage_chunk() -> None:
    assert one(b'{"id":"","choices":[],"prompt_filter_results":[{"x":1}]}')["prompt_filter_results"] == [{"x": 1}]


def test_a_heartbeat_without_choices_is_not_passed_on() -> None:
    taken = chunks()
    assert taken.take([b'{"type":"ping"}']) == b""
    assert taken.failure is None


@pytest.mark.parametrize(
    ("delta", "chars"),
    [
        ({"content": "abc"}, 3),
        ({"content": "日本語"}, 3),
        ({"content": None, "reasoning_content": "abcd"}, 4),
        ({"reasoning": "abcd", "reasoning_content": "abcd"}, 4),
        ({"refusal": "no"}, 2),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":'}}]}, 5),
        ({"tool_calls": [{"index": 0}]}, 0),
        ({"content": [{"type": "text", "text": "abc"}, {"type": "thinking", "thinking": [{"text": "de"}]}]}, 5),
        ({"role": "assistant", "content": ""}, 0),
        (None, 0),
    ],
)
def test_generated_text_is_counted_in_characters(delta: Any, chars: int) -> None:
    taken = chunks()
    taken.take([chunk(delta), chunk(delta, index=1)])
    assert taken.text_chars == 2 * chars


@pytest.mark.parametrize(
    ("payload", "speaking"),
    [
        (chunk({"role": "assistant", "content": "", "refusal": None}), False),
        (chunk({"role": "assistant"}), False),
        (chunk({}), False),
        (b'{"choices":[]}', False),
        (chunk({"content": " "}), True),
        (chunk({"audio": {"data": "x"}}), True),
        (chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}), True),
        (chunk({}, "stop"), True),
    ],
)
def test_only_a_chunk_that_says_something_counts_as_a_token(payload: bytes, speaking: bool) -> None:
    taken = chunks()
    taken.take([payload])
    assert taken.speaking is speaking


def test_an_answer_has_ended_when_all_its_choices_have() -> None:
    taken = chunks()
    taken.take([chunk({"content": "a"}), chunk({"content": "a"}, index=1), chunk({}, "stop")])
    assert not taken.ended(1)
    taken.take([chunk({}, "length", index=1)])
    assert taken.ended(1)
    assert taken.ended(2)
    assert not taken.ended(3)
    assert taken.finish_reason == "length"


@pytest.mark.parametrize(
    ("part", "said", "nothing"),
    [
        ("delta", {"delta": {"role": "assistant", "content": "a"}}, {"delta": {}}),
        ("text", {"text": "a"}, {"text": ""}),
    ],
)
def test_a_choice_whose_end_nobody_tells_ends_with_stop(part: Any, said: Any, nothing: Any) -> None:
    taken = Chunks(OWN, usage_asked=False, part=part)
    told = [{"index": 0, **said, "finish_reason": "length"}, {"index": 1, **said, "finish_reason": None}]
    taken.take([json.dumps({"choices": told}).encode(), b"[DONE]"])
    assert taken.done
    last = {"index": 1, **nothing, "logprobs": None, "finish_reason": "stop"}
    assert json.loads(taken.endings())["choices"] == [last]
    assert taken.finish_reason == "stop"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"<html>",
        b'{"choices":7}',
        b'{"choices":[7]}',
        b'{"choices":[{"delta":{"content":"\xff"}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":"now"}]}}]}',
        b'{"x":"\xff","choices":[]}',
        b'{"error":{"message":"m"}}',
        b'{"error":"m","choices":[]}',
        b'{"object":"error","message":"m","code":500}',
        b'{"detail":"m"}',
        b'{"text":"m","error_code":50001}',
        b'{"errors":[{"message":"m","code":8005}]}',
        b'{"choices":[],"x_groq":{"error":"over capacity"}}',
        b'{"choices":[{"index":0,"delta":{},"finish_reason":null}],"x_groq":{"error":"m","usage":{}},"usage":{}}',
        b"[" * 50000,
    ],
)
def test_what_is_no_chunk_is_a_failure_and_what_came_before_is_kept(payload: bytes) -> None:
    taken = chunks()
    good = chunk({"content": "a"})
    assert taken.take([good, payload, good, b"[DONE]"]).count(b"\n") == 1
    assert taken.failure is not None
    assert not taken.done


def test_a_refusal_in_a_stream_is_a_refusal() -> None:
    taken = chunks()
    taken.take([b'{"error":{"message":"Too long.","type":"invalid_request_error","code":"context_length_exceeded"}}'])
    assert taken.failure is not None
    assert isinstance(taken.failure.outcome, Refused)
    assert taken.failure.outcome.error.code == "context_length_exceeded"


@pytest.mark.parametrize("delta", [{"role": "assistant", "content": "x"}, {"content": "x"}])
def test_a_stream_of_more_choices_than_anybody_may_ask_for_is_none(delta: Any) -> None:
    taken = chunks()
    taken.take([chunk(delta, index=index) for index in range(CHOICES_MAX)])
    assert taken.failure is None
    taken.take([chunk(delta, "stop", index=0)])
    assert taken.failure is None
    taken.take([chunk(delta, index=CHOICES_MAX)])
    assert isinstance(taken.failure, Failure)


def test_a_stream_with_calls_of_tools_without_end_is_none() -> None:
    taken = chunks()
    calls = [{"index": index, "id": f"c{index}", "function": {"name": "f"}} for index in range(512)]
    choices = range(STREAM_CALLS_MAX // len(calls))
    taken.take([chunk({"role": "assistant", "tool_calls": calls}, index=index) for index in choices])
    assert taken.failure is None
    assert taken.endings().count(b'"{}"') == STREAM_CALLS_MAX
    taken.take([chunk({"tool_calls": [{"index": 512, "id": "one-more", "function": {"name": "f"}}]})])
    assert isinstance(taken.failure, Failure)


def test_a_role_that_is_null_is_one_that_is_missing() -> None:
    assert one(chunk({"role": None, "content": "a"}))["choices"][0]["delta"] == {"role": "assistant", "content": "a"}


def test_choices_that_stand_twice_in_a_chunk_are_told_apart() -> None:
    one, other = (b'[{"index":0,"delta":{"role":"assistant","content":"%b"}}]' % word for word in (b"a", b"b"))
    lines = chunks().take([b'{"before":%b,"choices":%b}' % pair for pair in ((one, one), (other, one))])
    got = [json.loads(line) for line in lines.splitlines()]
    assert [each["choices"][0]["delta"]["content"] for each in got] == ["a", "a"]
    assert [each["before"][0]["delta"]["content"] for each in got] == ["a", "b"]


def test_what_is_no_text_is_seen_in_every_chunk() -> None:
    taken = chunks()
    for byte in (b"a", b"a", b"\xff"):
        taken.take([b'{"id":"t","choices":[{"index":0,"delta":{"role":"assistant","x":"%b"}}]}' % byte])
    assert taken.failure is not None


def deltas(*payloads: bytes) -> list[dict[str, Any]]:
    """What is passed on of each."""
    found = chunks()
    lines = b"".join(found.take([payload]) for payload in payloads).splitlines()
    assert found.failure is None
    return [json.loads(line)["choices"][0]["delta"] for line in lines]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_who_speaks_is_said_once(separators: tuple[str, str]) -> None:
    """Clients put together what comes under each name."""
    spoken = [{"role": "assistant", "content": text} for text in ("Hel", 'lo "role":"assistant",', "", "!")]
    made = [json.dumps(json.loads(chunk(each)), separators=separators).encode() for each in spoken]
    first, *rest = deltas(*made)
    assert first == spoken[0]
    assert rest == [{"content": each["content"]} for each in spoken[1:]]


def call(index: int, id_: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": id_, "type": "function"} if id_ else {})


@pytest.mark.parametrize("together", [False, True])
def test_calls_that_all_have_the_first_index_are_told_apart_by_their_ids(together: bool) -> None:
    begun = [call(0, "call_1", "weather", '{"c":'), call(0, "call_2", "time", '{"d":')]
    if together:
        payloads = [chunk({"tool_calls": begun})]
    else:
        payloads = [chunk({"tool_calls": [begun[0]]}), chunk({"tool_calls": [call(0, arguments="1}")]})]
        payloads.append(chunk({"tool_calls": [begun[1]]}))
    payloads.append(chunk({"tool_calls": [call(0, arguments="2}")]}))
    told: dict[int, list[str]] = {}
    for delta in deltas(*payloads):
        for each in delta["tool_calls"]:
            parts = told.setdefault(each["index"], [])
            parts += [each.get("id", ""), each["function"].get("name", ""), each["function"]["arguments"]]
    first = '{"c":' if together else '{"c":1}'
    assert ["".join(parts) for parts in told.values()] == [f"call_1weather{first}", 'call_2time{"d":2}']


def test_a_call_whose_id_comes_with_each_part_is_one_call() -> None:
    parts = [chunk({"tool_calls": [call(0, "call_1", "weather", text)]}) for text in "{}"]
    assert [each["tool_calls"][0]["index"] for each in deltas(*parts)] == [0, 0]


@pytest.mark.parametrize(
    "parts",
    [
        [call(0, "call_1", "get_weather", text) for text in ("", '{"c":', "1}")],
        [call(0, "call_1", "get_weather", ""), *(call(0, None, "get_weather", text) for text in ('{"c":', "1}"))],
        [call(0, "call_1", "get_", ""), call(0, None, "weather", '{"c":'), call(0, "call_1", None, "1}")],
    ],
    ids=["all of it with each part", "its name with each part", "its name in parts"],
)
def test_what_a_call_begins_with_is_said_once(parts: list[dict[str, Any]]) -> None:
    """Clients put the parts of each field together."""
    told = [delta["tool_calls"][0] for delta in deltas(*(chunk({"tool_calls": [part]}) for part in parts))]
    assert "".join(each.get("id", "") for each in told) == "call_1"
    assert "".join(each["function"].get("name", "") for each in told) == "get_weather"
    assert "".join(each["function"]["arguments"] for each in told) == '{"c":1}'
    assert [each.get("type") for each in told] == ["function", None, None]


def test_an_answer_of_calls_without_an_end_ends_with_them() -> None:
    found = chunks()
    found.take([chunk({"tool_calls": [call(0, "call_1", "weather", "{}")]})])
    assert json.loads(found.endings())["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("nothing", [{"arguments": ""}, {"arguments": None}, {}])
@pytest.mark.parametrize("finish", ["tool_calls", "stop", None, "length", "content_filter"])
@pytest.mark.parametrize("together", [False, True])
def test_a_function_that_is_called_without_arguments_gets_an_empty_object_if_the_call_is_whole(
    nothing: dict[str, Any], finish: str | None, together: bool
) -> None:
    """Clients read arguments as JSON, of which no text at all is none."""
    begun = [{"index": at, "id": f"call_{at}", "type": "function", "function": {"name": "now"}} for at in range(2)]
    begun[1]["function"] |= nothing  # type: ignore[operator]
    payloads = [chunk({"role": "assistant"}, index=1)]
    if together:
        payloads += [chunk({"tool_calls": begun[1:]}, finish)]
    else:
        payloads += [chunk({"tool_calls": [each]}) for each in begun]
        payloads += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]})]
        payloads += [chunk({}, finish)] if finish else []
    found = chunks()
    lines = found.take(payloads) + found.endings()
    told, ended = {0: "", 1: ""}, False
    for line in lines.splitlines():
        choice = json.loads(line)["choices"][0]
        for each in choice["delta"].get("tool_calls", ()):
            assert not ended, "clients take a call for whole once its choice has ended"
            told[each["index"]] += each["function"].get("arguments") or ""
        ended = ended or (choice["index"] == 0 and choice["finish_reason"] is not None)
    assert told[0] == ("" if together else '{"a":1}')
    assert told[1] == ("" if finish in ("length", "content_filter") else "{}")


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    "given",
    [["", ""], ["", "", ""], ["", '{"a":1}'], ['{"a":1}', "", '{"b":2}', ""], ["", "", '{"a":1}']],
)
def test_calls_without_arguments_are_whole_before_the_next_one_begins(given: list[str], *, ends: bool) -> None:
    """Clients that run a call once another one begins read its arguments then."""
    payloads = [chunk({"role": "assistant", "content": ""}, index=1)]
    for at, arguments in enumerate(given):
        payloads.append(chunk({"tool_calls": [_beginning(at)]}))
        parts = (arguments[:3], arguments[3:]) if arguments else ()
        payloads += [chunk({"tool_calls": [{"index": at, "function": {"arguments": part}}]}) for part in parts]
        payloads.append(chunk({"content": "meanwhile"}, index=1))
    found = chunks()
    lines = b"".join(found.take([payload]) for payload in payloads)
    if ends:
        lines += found.take([chunk({}, "tool_calls")])
    lines += found.endings()
    told: list[str] = []
    others = ""
    for line in lines.splitlines():
        choice = json.loads(line)["choices"][0]
        others += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(told)
                for each in told:
                    json.loads(each)
                told.append("")
            told[call["index"]] += call["function"].get("arguments") or ""
    assert told == [each or "{}" for each in given]
    assert others == "meanwhile" * len(given)


def test_an_answer_does_not_wait_without_end_for_the_arguments_of_a_call() -> None:
    found = chunks()
    assert found.take([chunk({"tool_calls": [_beginning(0)]})])
    assert not found.take([chunk({"tool_calls": [_beginning(1)]})])
    part = chunk({"tool_calls": [{"index": 1, "function": {"arguments": "x" * 1000}}]})
    waiting = 0
    while not (lines := found.take([part])):
        waiting += len(part)
    assert HELD_BYTES_MAX * 0.9 < waiting < HELD_BYTES_MAX
    assert b"{}" not in lines.replace(b'"delta":{}', b"")
    assert found.take([part])
    end = found.take([chunk({}, "tool_calls")]).splitlines()
    assert json.loads(end[0])["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]
    assert len(end) == 2


def _beginning(at: int) -> dict[str, Any]:
    return {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": "now"}}


def test_what_is_no_function_is_called_as_it_is() -> None:
    custom = {"index": 0, "id": "call_0", "type": "custom", "custom": {"name": "code", "input": "print()"}}
    assert deltas(chunk({"tool_calls": [custom]}), chunk({}, "tool_calls"))[0]["tool_calls"] == [custom]


def test_what_stands_beside_the_usage_comes_with_it_and_what_stands_alone_at_its_place() -> None:
    moderated = json.dumps({"id": "a", "choices": [], "moderation": {"input": {"type": "moderation_results"}}}).encode()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    cited = json.dumps({"id": "a", "choices": [], "usage": usage, "citations": ["https://a"]}).encode()
    taken = chunks(usage_asked=True)
    (line,) = taken.take([moderated, cited]).splitlines()
    assert json.loads(line)["moderation"] == {"input": {"type": "moderation_results"}}
    assert taken.usage is not None
    last = json.loads(taken.last(taken.usage))
    assert (last["usage"], last["citations"], last["choices"]) == (usage, ["https://a"], [])


@pytest.mark.parametrize(
    "deltas",
    [
        [
            {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": ""}}]},
            {"tool_calls": [{"index": 0, "custom": {"input": "any "}}]},
            {"tool_calls": [{"index": 0, "custom": {"input": "text"}}]},
        ],
        [{"audio": {"id": "a", "transcript": "hi"}}, {"audio": {"data": "AAAA"}}, {"audio": {"expires_at": 1}}],
        [{"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a"}}]}],
        [{"refusal": "No"}, {"refusal": "."}],
    ],
    ids=["custom_tool", "audio", "annotations", "refusal"],
)
def test_what_openai_streams_beside_text_passes_as_it_is(deltas: list[dict[str, Any]]) -> None:
    said = [{"role": "assistant", "content": None}, *deltas]
    taken = chunks()
    lines = taken.take([*(chunk(delta, obfuscation="x" * n) for n, delta in enumerate(said)), chunk(finish="stop")])
    shown = [json.loads(line) for line in (lines + taken.endings()).splitlines()]
    assert [each["choices"][0]["delta"] for each in shown] == [*said, {}]
    assert [each["obfuscation"] for each in shown[:-1]] == ["x" * n for n in range(len(said))]
