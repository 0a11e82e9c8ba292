"""Which requests are finished although their client hung up."""

from __future__ import annotations

import pytest

from gateway.requests.disconnect import OnDisconnect, parse_policies
from gateway.settings import GatewaySettings
from process.settings import WrongSettings, load


def test_a_key_counts_more_than_a_model_and_a_model_more_than_the_default() -> None:
    policy = OnDisconnect("cancel", {"small": "finish"}, {"team-a": "cancel", "team-b": "finish"})
    assert not policy.finishes("large", None)
    assert policy.finishes("small", None)
    assert policy.finishes("small", "team-c")
    assert not policy.finishes("small", "team-a")
    assert policy.finishes("large", "team-b")


def test_a_name_may_hold_what_separates() -> None:
    assert parse_policies(" a=b=finish , org/x = cancel,") == {"a=b": "finish", "org/x": "cancel"}


@pytest.mark.parametrize("setting", ["small", "small=", "=finish", "small=stop", "small=finish,small=cancel"])
def test_anything_else_is_refused_in_a_sentence(setting: str) -> None:
    with pytest.raises(ValueError, match=r"must be|twice"):
        parse_policies(setting)
    with pytest.raises(WrongSettings) as wrong:
        load(GatewaySettings, {"ON_DISCONNECT_MODELS": setting})
    assert "ON_DISCONNECT_MODELS" in str(wrong.value.problems)


def test_the_settings_make_the_policy() -> None:
    environment = {"ON_DISCONNECT": "finish", "ON_DISCONNECT_MODELS": "m=cancel", "ON_DISCONNECT_KEYS": "k=finish"}
    policy = load(GatewaySettings, environment).disconnect_policy
    assert policy.finishes("other", None)
    assert not policy.finishes("m", None)
    assert policy.finishes("m", "k")
