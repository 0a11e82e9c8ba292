"""What addresses ask for, read in the ledger's zone, and links to the same page with other parameters."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError

from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from management.reading.questions import Question

T = TypeVar("T")
Q = TypeVar("Q", bound="Question")
LOCAL = "%Y-%m-%dT%H:%M"


def question_of(kind: type[Q], **fields: Any) -> Q:
    """The question. Raises :class:`InvalidRequest` with a sentence that names the field."""
    return checked(lambda: kind(**fields))


def checked(make: Callable[[], T]) -> T:
    """What is made. Raises :class:`InvalidRequest` for what pydantic refuses."""
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        name = next((part for part in reversed(first["loc"]) if isinstance(part, str)), "this form")
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(f"{name}: {message[:1].lower()}{message[1:]}.") from None


def moment(text: str | None, zone: datetime.tzinfo, name: str) -> str | None:
    """A local time of a form, such as ``2026-03-01T12:00``, with its zone. Raises :class:`InvalidRequest`."""
    if text is None:
        return None
    try:
        return datetime.datetime.strptime(text, LOCAL).replace(tzinfo=zone).isoformat()
    except ValueError:
        raise InvalidRequest(f"{name}: write it as 2026-03-01T12:00.") from None


def chosen(asked: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of the choices, the first of them where nothing is asked for. Raises :class:`InvalidRequest`."""
    value = asked.get(name, choices[0])
    if value not in choices:
        raise InvalidRequest(f"{name}: choose one of {', '.join(choices)}.")
    return value


def link(path: str, asked: dict[str, str], **changes: str | None) -> str:
    """The address with these parameters changed, or left out where they are None. It begins at the first page."""
    wanted = {name: value for name, value in {**asked, "cursor": None, **changes}.items() if value is not None}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def position(cursor: str | None) -> int | None:
    """Where a page begins that a link leads to. Raises :class:`InvalidRequest`."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidRequest("cursor: it was not made by this page.")
    return int(cursor)
