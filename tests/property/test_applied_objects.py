"""What is applied is JSON, and the API server reads YAML."""

from __future__ import annotations

import json

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from process.cluster import encoded


@given(st.text())
@example("\U0001f600")
@example("\x7f \x85 \u2028 \ufffe \\\U0001f600")
def test_an_object_says_the_same_as_json_and_as_yaml(text: str) -> None:
    body = encoded({text: [text]})
    assert json.loads(body) == yaml.safe_load(body) == {text: [text]}
