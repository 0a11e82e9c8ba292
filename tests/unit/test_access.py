"""Who may ask management, and who may act."""

from __future__ import annotations

import pytest

from management.access import LOCAL, Access, OperatorRequired, Person, parse_keys
from wire.errors import ForeignPage

KEYS = "alice=operator:key-of-alice,grafana=reader:key:with:colons"
ALICE, GRAFANA = Person("alice", "operator"), Person("grafana", "reader")


def test_keys_have_a_name_and_a_role() -> None:
    assert parse_keys(KEYS) == {"key-of-alice": ALICE, "key:with:colons": GRAFANA}


@pytest.mark.parametrize(
    ("header", "person"),
    [
        (b"Bearer key-of-alice", ALICE),
        (b"bearer  key:with:colons ", GRAFANA),
        (b"Basic key-of-alice", None),
        (b"Bearer key-of-alic", None),
        (b"Bearer", None),
        (b"", None),
        (b"Bearer \xff\xfe", None),
    ],
)
def test_whose_key_it_is(header: bytes, person: Person | None) -> None:
    access = Access(parse_keys(KEYS))
    assert access.person(header) == person
    assert "key-of" not in repr(access)


def test_without_keys_everyone_who_gets_here_is_local() -> None:
    assert Access({}).person(b"") == LOCAL
    assert Access({}).holder("any") is None


def test_a_reader_acts_never() -> None:
    access = Access(parse_keys(KEYS))
    access.check_action(ALICE, {"host": "management.example"})
    with pytest.raises(OperatorRequired):
        access.check_action(GRAFANA, {"host": "localhost"})


@pytest.mark.parametrize("host", ["localhost:8082", "127.0.0.1:8082", "127.9.9.9", "[::1]:8082"])
def test_without_keys_this_machine_is_answered(host: str) -> None:
    Access({}).check_host(host)


@pytest.mark.parametrize(
    "host", ["evil.example:8082", "localhost.evil.example", "10.0.0.1", "", "[::1", "127.0.0.1.nip.io"]
)
def test_without_keys_a_name_that_was_made_to_point_here_is_not(host: str) -> None:
    with pytest.raises(ForeignPage):
        Access({}).check_host(host)
    Access(parse_keys(KEYS)).check_host(host)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_acts_never(site: str) -> None:
    for access, person in ((Access({}), LOCAL), (Access(parse_keys(KEYS)), ALICE)):
        with pytest.raises(ForeignPage):
            access.check_action(person, {"host": "localhost", "sec-fetch-site": site})
