from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wire.errors import InvalidName
from wire.topics import MODEL_NAME_BYTES_MAX, Topics, check_incarnation, model_of, segment

TOPICS = Topics()
ALPHABET = re.compile(r"[A-Za-z0-9._-]+")
PARTITION = re.compile(r"-partition-\d+$")
LOCAL = "persistent://public/default/"

names = st.text(
    st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1
).filter(lambda name: len(name.encode()) <= MODEL_NAME_BYTES_MAX)
awkward = st.sampled_from(
    [
        "a/b",
        "../../admin",
        "persistent://public/default/results",
        "x-partition-0",
        "x-partition-12",
        "a.normal",
        "normal",
        ".",
        "..",
        "_2f",
        "_",
        "%2F",
        "a b",
        "Größe",
        "模型",
        "🦙",
        "é",
        "e\u0301",
        "A" * 256,
        "🦙" * 64,
    ]
)
models = names | awkward


@given(models)
def test_every_model_name_comes_back_from_its_topics(model: str) -> None:
    assert model_of(segment(model)) == model
    assert TOPICS.model_of(TOPICS.requests(model)) == model
    assert TOPICS.model_of(TOPICS.dead_letters(model)) == model


@given(models, models)
def test_two_names_never_share_a_topic(one: str, other: str) -> None:
    assume(one != other)
    assert TOPICS.requests(one) != TOPICS.requests(other)
    assert TOPICS.dead_letters(one) != TOPICS.requests(other)


@given(models)
def test_a_model_name_chooses_nothing_but_its_own_segment(model: str) -> None:
    for topic, role in ((TOPICS.requests(model), "requests"), (TOPICS.dead_letters(model), "dead")):
        local = topic.removeprefix(LOCAL)
        assert local != topic
        assert ALPHABET.fullmatch(local)
        assert local.startswith(f"{role}.")
        assert local.endswith(".normal")
        assert not PARTITION.search(topic)


@given(st.text())
@example("\ud800")
@example("ok\udfff")
@example("tab\t")
@example("nul\0")
@example("del\x7f")
@example("")
@example("é" * 129)
def test_a_name_is_escaped_or_refused_and_nothing_else(name: str) -> None:
    refused = (
        not name
        or any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) < 0xE000 for char in name)
        or len(name.encode(errors="replace")) > MODEL_NAME_BYTES_MAX
    )
    if refused:
        with pytest.raises(InvalidName):
            segment(name)
    else:
        assert model_of(segment(name)) == name


@given(st.text(max_size=300))
@example("_2F")  # capital hexadecimal: never made
@example("_61")  # an escaped letter that needs no escape
@example("_c3")  # half of a UTF-8 sequence
@example("_00")
@example("a/b")
@example("a\n")
def test_what_segment_never_makes_is_refused(text: str) -> None:
    try:
        model = model_of(text)
    except InvalidName:
        return
    assert segment(model) == text


@given(st.text(max_size=100))
@example("node-partition-3")
@example("gateway-partition-12345678901234567890")
@example("abc\n")
@example("abcd\n")
@example("-abcd")
@example("ABCD")
@example("ab.cd")
def test_an_incarnation_is_checked_before_it_becomes_a_topic(text: str) -> None:
    good = re.fullmatch(r"[a-z0-9][a-z0-9-]{3,95}", text) and not PARTITION.search(text)
    if good:
        assert check_incarnation(text) == text
        assert TOPICS.link(text) == f"non-persistent://public/default/link.{text}"
        assert TOPICS.control(text) == f"non-persistent://public/default/control.{text}"
    else:
        for build in (check_incarnation, TOPICS.link, TOPICS.control):
            with pytest.raises(InvalidName):
                build(text)


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{3,95}", fullmatch=True))
def test_an_incarnation_never_looks_like_a_partition(incarnation: str) -> None:
    try:
        topic = TOPICS.link(incarnation)
    except InvalidName:
        assert PARTITION.search(incarnation)
    else:
        assert not PARTITION.search(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "persistent://public/default/results",
        "persistent://public/default/requests.m",
        "persistent://public/default/requests..normal",
        "persistent://public/default/requests.m.high",
        "persistent://other/default/requests.m.normal",
        "non-persistent://public/default/requests.m.normal",
        "persistent://public/default/link.m.normal",
        "requests.m.normal",
    ],
)
def test_only_topics_of_a_model_name_a_model(topic: str) -> None:
    with pytest.raises(InvalidName):
        TOPICS.model_of(topic)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", ""),
        ("tenant", "a/b"),
        ("requests_namespace", "-x"),
        ("links_namespace", "a b"),
        ("results_namespace", "a" * 129),
        ("results_name", "a/b"),
        ("results_name", ""),
        ("results_name", "non-persistent://public/default/results"),
        ("results_name", "persistent://public/default/a b"),
    ],
)
def test_an_operators_name_that_pulsar_would_refuse_is_refused_at_the_start(field: str, value: str) -> None:
    with pytest.raises(InvalidName):
        Topics(**{field: value})


def test_the_results_topic_is_a_local_or_a_full_name() -> None:
    assert Topics(tenant="t", results_namespace="bills", results_name="r").results == "persistent://t/bills/r"
    full = "persistent://else/where/bills"
    assert Topics(tenant="t", results_name=full).results == full
