"""Cookies that stand for management keys, and where a login may lead."""

from __future__ import annotations

import base64

import pytest

from management.access import Access, Person
from management.pages.door import own_path
from management.pages.session import SESSION_S, Sessions

KEY = "a-management-key"
ACCESS = Access({KEY: Person("management", "operator"), "another-key-here": Person("grafana", "reader")})


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> tuple[Sessions, str]:
    sessions = Sessions(ACCESS, clock)
    cookie = sessions.begin(KEY)
    assert cookie is not None
    return sessions, cookie


def test_a_cookie_stands_for_its_key_at_every_management_that_knows_it() -> None:
    clock = Clock()
    _, cookie = opened(clock)
    viewer = Sessions(ACCESS, clock).viewer(cookie)
    assert viewer is not None
    assert (viewer.person.name, viewer.person.role, viewer.leaves) == ("management", "operator", True)
    assert KEY not in cookie


def test_a_cookie_ends_with_its_time_and_with_its_key() -> None:
    clock = Clock()
    sessions, cookie = opened(clock)
    assert Sessions(Access({"changed-key": Person("management", "operator")}), clock).viewer(cookie) is None
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
    other = sessions.begin(KEY)
    one, two = sessions.viewer(cookie), sessions.viewer(other)
    assert one is not None
    assert two is not None
    assert one.csrf != two.csrf


def test_what_stands_in_a_form_signs_no_cookie() -> None:
    sessions, cookie = opened(Clock())
    viewer = sessions.viewer(cookie)
    assert viewer is not None
    content = cookie.rpartition(".")[0]
    assert sessions.viewer(f"{content}.{viewer.csrf}") is None


def test_a_reader_reads_and_nobody_takes_anothers_name() -> None:
    clock = Clock()
    sessions = Sessions(ACCESS, clock)
    cookie = sessions.begin("another-key-here")
    viewer = sessions.viewer(cookie)
    assert viewer is not None
    assert viewer.person == Person("grafana", "reader")
    assert not viewer.operates
    assert cookie is not None
    until, nonce, _, signature = cookie.split(".")
    operator = base64.urlsafe_b64encode(b"management").decode()
    assert sessions.viewer(f"{until}.{nonce}.{operator}.{signature}") is None


def test_a_wrong_key_begins_nothing() -> None:
    sessions = Sessions(ACCESS, Clock())
    for secret in ("", "a-management-ke", "a-management-key2", "ä"):
        assert sessions.begin(secret) is None


def test_without_keys_whoever_comes_operates_and_cannot_leave() -> None:
    viewer = Sessions(Access({}), Clock()).viewer(None)
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
