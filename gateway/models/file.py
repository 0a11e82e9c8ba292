"""The models file: what an operator declares about models, beside what their nodes say of themselves.

TOML, one table per model; only the name is needed::

    [[model]]
    name = "org/large"
    aliases = ["gpt-4", "large"]
    owned_by = "org"
    context_length = 131072
    description = "The large one."
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wire.errors import InvalidName
from wire.topics import segment

if TYPE_CHECKING:
    from pathlib import Path

FILE_BYTES_MAX = 1024 * 1024

Text = Annotated[str, Meta(max_length=1000)]


class DeclaredModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model as it is declared."""

    name: str
    aliases: tuple[str, ...] = ()
    owned_by: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    context_length: Annotated[int, Meta(ge=1)] | None = None
    description: Text | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    model: list[DeclaredModel]


def read_models(path: Path) -> tuple[DeclaredModel, ...]:
    """The models of a file. Raises ValueError with a sentence."""
    try:
        text = path.read_bytes()
    except OSError:
        raise ValueError("it names a file that cannot be read") from None
    if len(text) > FILE_BYTES_MAX:
        raise ValueError(f"the file has more than {FILE_BYTES_MAX} bytes")
    try:
        found = msgspec.convert(tomllib.loads(text.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the file is no TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"the file does not say what a model is: {error}") from None
    seen: set[str] = set()
    for each in found.model:
        if each.name in seen:
            raise ValueError(f"the file declares {each.name!r} twice")
        seen.add(each.name)
        for name in (each.name, *each.aliases):
            check_model_name(name)
    return tuple(found.model)


def check_model_name(name: str) -> None:
    """Raises ValueError with a sentence for what can be no model's name."""
    try:
        segment(name)
    except InvalidName as error:
        raise ValueError(error.message) from None
