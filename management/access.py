"""Who may ask the REST API, and who may act by it. Only digests of keys are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from process.host import host_of, is_loopback
from process.settings import is_sendable, split_keys
from wire.errors import Forbidden, ForeignPage

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["reader", "operator"]
KEY_CHARS_MIN = 8
NAME_CHARS_MAX = 64
OWN_NAME = "management"
"""Who shows ``MANAGEMENT_KEY``."""


@dataclass(frozen=True)
class Person:
    """Whoever showed a key: its name stands beside what is done with it."""

    name: str
    role: Role


LOCAL = Person("local", "operator")
"""Whoever reaches a management without keys, which listens on loopback only."""


class OperatorRequired(Forbidden):
    """This key may read, and not act: show an operator's key."""

    code = "operator_required"


class Access:
    """The keys there are."""

    def __init__(self, keys: Mapping[str, Person]) -> None:
        """``keys``: by the secret itself, which is not kept."""
        # Found by digest: the time that takes says nothing of use, for nobody can steer a digest towards another one.
        self._people = {_digest(key.encode()): person for key, person in keys.items()}

    def __repr__(self) -> str:
        return f"<Access {sorted(person.name for person in self._people.values())}>"

    @property
    def asks_for_key(self) -> bool:
        """Whether anybody must show one."""
        return bool(self._people)

    def person(self, authorization: bytes) -> Person | None:
        """Who shows this ``Authorization`` header; None for a stranger."""
        if not self._people:
            return LOCAL
        scheme, _, key = authorization.partition(b" ")
        return self._people.get(_digest(key.strip())) if scheme.lower() == b"bearer" else None

    def holder(self, key: str) -> Person | None:
        """Whose key this is; None for nobody's."""
        return self._people.get(_digest(key.strip().encode()))

    def named(self, name: str) -> Person | None:
        """Who is called so."""
        return next((person for person in self._people.values() if person.name == name), None)

    def digest_of(self, name: str) -> bytes | None:
        """The SHA-256 of the key of this name: only who knows it can sign for it."""
        return next((digest for digest, person in self._people.items() if person.name == name), None)

    def check_action(self, person: Person, headers: Mapping[str, str]) -> None:
        """Raises :class:`OperatorRequired`, and :class:`ForeignPage` for what another site's page made a browser do."""
        if person.role != "operator":
            raise OperatorRequired
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ForeignPage

    def check_host(self, host: str) -> None:
        """Raises :class:`ForeignPage` if no key is asked for and the client believes to be elsewhere: a name that
        somebody else made point to this machine would make his page one of the same origin."""
        if not self._people and not is_loopback(host_of(host)):
            raise ForeignPage


def parse_keys(setting: str) -> dict[str, Person]:
    """Key → person of ``MANAGEMENT_KEYS``. Raises ValueError with a sentence, which repeats no key."""
    keys: dict[str, Person] = {}
    for number, part in enumerate(split_keys(setting), 1):
        who, _, key = part.partition(":")
        name, _, role = who.partition("=")
        if role not in get_args(Role) or not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise ValueError(f"key number {number} is not written as name=reader:key or name=operator:key")
        check_key(key, f"key number {number}")
        if key in keys or name in (OWN_NAME, *(person.name for person in keys.values())):
            raise ValueError(f"key number {number} repeats a name or a key")
        keys[key] = Person(name, "operator" if role == "operator" else "reader")
    return keys


def check_key(key: str, what: str) -> None:
    """Raises ValueError for a key that is too easily guessed, or cannot be shown; its sentence says ``what`` it is."""
    if len(key) < KEY_CHARS_MIN or not is_sendable(key):
        raise ValueError(f"{what} has fewer than {KEY_CHARS_MIN} characters, or some that cannot stand in a header")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
