"""Cookies that stand for management keys, and where a login may lead."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from management.pages.door import own_path
from management.pages.session import SESSION_S, OneKey, Sessions

KEY = SecretStr("a-management-key")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, key: SecretStr | None = KEY) -> tuple[Sessions, str]:
    sessions = Sessions(OneKey(key), clock)
    cookie = sessions.begin(key.get_secret_value() if key else "")
    assert cookie is not None
    return sessions, cookie


def test_a_cookie_stands_for_its_key_at_every_management_that_knows_it() -> None:
    clock = Clock()
    _, cookie = opened(clock)
    viewer = Sessions(OneKey(KEY), clock).viewer(cookie)
    assert viewer is not None
    assert (viewer.name, viewer.role, viewer.leaves) == ("management", "operator", True)
    assert KEY.get_secret_value() not in cookie


def test_a_cookie_ends_with_its_time_and_with_its_key() -> None:
    clock = Clock()
    sessions, cookie = opened(clock)
    assert Sessions(OneKey(SecretStr("another-key")), clock).viewer(cookie) is None
    clock.now += SESSION_S - 1
    assert sessions.viewer(cookie) is not None
    clock.now += 1
    assert sessions.viewer(cookie) is None


def test_nothing_but_a_whole_cookie_is_taken() -> None:
    clock = Clock()
    sessions, cookie = opened(clock)
    until, nonce, name, signature = cookie.split(".")
    longer = f"{int(until) + 1000}.{nonce}.{name}.{signature}"
    wrong = ("", ".", "...", cookie[:-1], cookie + "0", longer, f"{until}.{nonce}.{name}.", "ü" * 10, "x" * 5000, None)
    for each in (*wrong, f"-1.{nonce}.{name}.{signature}", f"{until}.{nonce}.!!.{signature}"):
        assert sessions.viewer(each) is None, each


def test_every_session_has_forms_of_its_own() -> None:
    clock = Clock()
    sessions, cookie = opened(clock)
    other = sessions.begin(KEY.get_secret_value())
    one, two = sessions.viewer(cookie), sessions.viewer(other)
    assert one is not None
    assert two is not None
    assert one.csrf != two.csrf


def test_a_wrong_key_begins_nothing() -> None:
    sessions = Sessions(OneKey(KEY), Clock())
    for secret in ("", "a-management-ke", "a-management-key2", "ä"):
        assert sessions.begin(secret) is None


def test_without_keys_whoever_comes_operates_and_cannot_leave() -> None:
    viewer = Sessions(OneKey(None), Clock()).viewer(None)
    assert viewer is not None
    assert viewer.operates
    assert not viewer.leaves


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        ("/requests?status=failed", "/requests?status=failed"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x=1", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_pages_of_ours_only(wanted: str, leads_to: str) -> None:
    assert own_path(wanted) == leads_to
