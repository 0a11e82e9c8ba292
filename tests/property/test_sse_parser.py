"""Server-sent events come out the same however the network cuts them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workernode.remote.sse import EventParser, EventTooLarge

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
PAYLOAD = st.lists(LINE, min_size=1, max_size=3) | st.builds(
    lambda value: [json.dumps(value)], st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
)
NOISES = st.lists(
    st.sampled_from([": ping", ":", "event: message", "id: 7", "retry: 10", "datax: no", " data: no"]), max_size=2
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream as a server may write it, and the payloads in it."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    payloads: list[list[str]] = draw(st.lists(PAYLOAD, max_size=6))
    lines: list[str] = []
    for payload in payloads:
        lines += draw(NOISES)
        for line in payload:
            if line == "" and draw(st.booleans()):
                lines.append("data")
            else:
                # Without the space, the line's own first one would be taken for it.
                lines.append(("data:" if not line.startswith(" ") and draw(st.booleans()) else "data: ") + line)
            lines += draw(NOISES)
        lines += [""] * draw(st.integers(1, 3))
    if draw(st.booleans()):
        while lines and lines[-1] == "":
            lines.pop()  # the last event is not ended
    mark = draw(st.sampled_from(["", "\ufeff"]))
    text = mark + "".join(line + newline for line in lines)
    joined = ("\n".join(payload).encode() for payload in payloads)
    return text.encode(), [payload for payload in joined if payload and not payload.isspace()]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def parsed(parts: list[bytes], *, event_bytes_max: int = 10_000) -> list[bytes]:
    parser = EventParser(event_bytes_max=event_bytes_max)
    payloads = [payload for part in parts for payload in parser.feed(part)]
    return payloads + parser.end()


@given(st.data())
def test_a_stream_cut_anywhere_gives_the_payloads_it_was_written_with(data: st.DataObject) -> None:
    stream, payloads = data.draw(streams())
    assert parsed(data.draw(cut(stream))) == payloads


@given(streams())
def test_a_stream_that_comes_byte_by_byte_gives_the_payloads_it_was_written_with(
    stream: tuple[bytes, list[bytes]],
) -> None:
    assert parsed([bytes([byte]) for byte in stream[0]]) == stream[1]


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_arbitrary_bytes_are_read_without_an_accident_and_cut_alike(parts: list[bytes]) -> None:
    assert parsed(parts) == parsed([b"".join(parts)])


def test_the_common_form_is_given_out_at_once() -> None:
    parser = EventParser(event_bytes_max=100)
    assert parser.feed(b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DO') == [b'{"a":1}', b'{"b":2}']
    assert parser.feed(b"NE]\n") == []
    assert parser.feed(b"\n") == [b"[DONE]"]
    assert parser.end() == []


def test_an_error_that_is_a_field_of_its_own_is_a_payload() -> None:
    error = b'error: {"code":400}\n\ndata: [DONE]\n\n'
    assert parsed([b"data: {}\n\n" + error]) == [b"{}", b'{"error": {"code":400}}', b"[DONE]"]


def test_text_that_looks_like_an_event_inside_a_payload_stays_inside() -> None:
    payload = json.dumps({"content": "data: [DONE]\n\n\r\n\u2028"}).encode()
    assert parsed([b"data: " + payload + b"\n\n"]) == [payload]


@pytest.mark.parametrize("part", [b"x" * 50, b"data: x\n", b": comment\n"])
def test_an_event_without_an_end_is_given_up_at_its_limit(part: bytes) -> None:
    parser = EventParser(event_bytes_max=200)
    for _ in range(200 // len(part)):
        parser.feed(part)
    with pytest.raises(EventTooLarge):
        parser.feed(part)


def test_a_large_event_in_small_parts_is_read_in_linear_time() -> None:
    parser = EventParser(event_bytes_max=10_000_000)
    payload = b"x" * 8_000_000
    data = b"data: " + payload + b"\n\n"
    payloads = [found for start in range(0, len(data), 100) for found in parser.feed(data[start : start + 100])]
    assert payloads == [payload]
