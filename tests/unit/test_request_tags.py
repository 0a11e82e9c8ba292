"""What of a request's metadata becomes tags, and what is left to the node."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.endpoints.metadata import METADATA_TAGS_MAX, tags
from wire.request import TAG_NAME_CHARS_MAX, TAG_VALUE_CHARS_MAX

NAME, VALUE = "n" * TAG_NAME_CHARS_MAX, "v" * TAG_VALUE_CHARS_MAX


def of(metadata: Any) -> dict[str, str]:
    return tags(msgspec.Raw(json.dumps(metadata).encode()))


def test_short_texts_under_short_names_are_tags() -> None:
    told = {"team": "red", "job": "größer: 5 %", NAME: VALUE, "a": "=", "b c": "d e"}
    assert of(told) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NAME + "n", "a"),
        ("a", VALUE + "v"),
        ("", "a"),
        ("a", ""),
        ("a=b", "c"),
        ("a\n", "b"),
        ("a", "b\x00"),
        ("a", "b\u2028"),
        ("a", 1),
        ("a", None),
        ("a", ["b"]),
        ("a", {"b": "c"}),
    ],
    ids=ascii,
)
def test_what_cannot_be_a_tag_is_none_and_spoils_no_other(name: str, value: Any) -> None:
    assert of({"first": "1", name: value, "last": "2"}) == {"first": "1", "last": "2"}


def test_the_first_tags_count_and_what_is_none_takes_no_place() -> None:
    told = {"none": 1, **{f"t{number}": "x" for number in range(METADATA_TAGS_MAX + 1)}}
    assert list(of(told)) == [f"t{number}" for number in range(METADATA_TAGS_MAX)]


@pytest.mark.parametrize("metadata", [None, "team", 5, True, ["team"], {}])
def test_other_forms_of_metadata_are_no_error(metadata: Any) -> None:
    assert of(metadata) == {}
    assert tags(msgspec.UNSET) == {}


def test_half_a_character_leaves_no_tags_and_is_no_error() -> None:
    assert tags(msgspec.Raw(b'{"a": "b", "c": "\\ud800"}')) == {}
