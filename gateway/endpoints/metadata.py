"""The ``metadata`` of a request: short texts under short names become tags. The node gets the field as it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from wire.request import TAG_NAME_CHARS_MAX, TAG_VALUE_CHARS_MAX

if TYPE_CHECKING:
    from gateway.endpoints.reading import JsonValue

METADATA_TAGS_MAX = 16
"""As many as OpenAI allows in ``metadata``."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)


def tags(metadata: JsonValue) -> dict[str, str]:
    """What of it can be a tag, the first :data:`METADATA_TAGS_MAX`.

    What cannot is no error: providers may know more forms.
    """
    found: dict[str, str] = {}
    if metadata is UNSET:
        return found
    with contextlib.suppress(msgspec.DecodeError):  # no object, or half of a character, which nobody looked for so far
        for name, value in _fields.decode(metadata).items():
            if (
                len(found) < METADATA_TAGS_MAX
                and bytes(value).startswith(b'"')
                and is_tag(name, text := _text.decode(value))
            ):
                found[name] = text
    return found


def is_tag(name: str, value: str) -> bool:
    """Whether it is short and printable: no database takes every character, and no table shows it."""
    return (
        0 < len(name) <= TAG_NAME_CHARS_MAX
        and 0 < len(value) <= TAG_VALUE_CHARS_MAX
        and "=" not in name
        and name.isprintable()
        and value.isprintable()
    )
