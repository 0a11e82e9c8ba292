"""Reading a body into an endpoint's struct: what is wrong becomes an error that names the field and never the value."""

from __future__ import annotations

import codecs
import re
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from wire import nesting
from wire.errors import InvalidRequest

S = TypeVar("S", bound=msgspec.Struct)

JsonValue = msgspec.Raw | UnsetType
"""Any JSON, not yet parsed: Python objects of small values take fifty times the bytes that the client sent."""

REFUSED_FIELDS = (
    "api_base",
    "base_url",
    "api_key",
    "extra_headers",
    "chat_template",
    "trust_remote_code",
    "prompt_embeds",
    "kv_transfer_params",
)
"""Fields that would steer routing or run code somewhere: refused, not dropped, as silence would mislead."""

_WHOLE = re.compile(rb"(-?[0-9]+)\.0+")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_ENUM = re.compile(r"Invalid enum value .*", re.DOTALL)
_MALFORMED = "JSON is malformed: "
_FIELD = re.compile(r"required field `([^`]+)`")


class BodyReader(Generic[S]):
    """Reads bodies of one schema."""

    def __init__(self, schema: type[S]) -> None:
        # Declared, so that msgspec finds the refused fields under every way in which JSON can spell their names.
        refused = [(name, JsonValue, UNSET) for name in REFUSED_FIELDS]
        self._decoder: msgspec.json.Decoder[S] = msgspec.json.Decoder(
            msgspec.defstruct(schema.__name__, refused, bases=(schema,), kw_only=True)
        )

    def read(self, body: bytes) -> tuple[S, bytes | None]:
        """The struct, each field checked by itself, and what nodes get, if not these bytes.

        Raises :class:`wire.errors.InvalidRequest`.
        """
        try:
            if not body.isascii():
                body.decode()  # msgspec does not look into fields that it skips, and some provider would choke on them
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            if (whole := _with_integers(body)) is not None:
                return self.read(whole)[0], whole
            raise invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise not_json(_why(body, error)) from None
        if nesting.is_too_deep(body):
            raise InvalidRequest(f"The body is nested deeper than {nesting.LEVELS_MAX} levels.", code="invalid_json")
        for name in REFUSED_FIELDS:
            if getattr(request, name) is not UNSET:
                raise InvalidRequest(f"{name} cannot be set by a request.", param=name, code="unsupported_parameter")
        return request, None


def _with_integers(body: bytes) -> bytes | None:
    """The body with 5 where a field is 5.0: to JSON Schema it is an integer, and some programs know no other numbers.
    None if there is none."""
    try:
        fields = _fields.decode(body) if b".0" in body else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # whatever is at fault beside
    whole = {name: msgspec.Raw(found[1]) for name, value in fields.items() if (found := _WHOLE.fullmatch(value))}
    return _encoder.encode(fields | whole) if whole else None


def invalid(message: str, *, within: str = "") -> InvalidRequest:
    """A sentence from msgspec's, which names types and bounds but never the value.

    ``within`` is the field whose content was read by itself.
    """
    path = _PATH.search(message)
    where = within + (path[1] if path else "")
    missing = _FIELD.search(message)
    # An enumeration's message quotes the value, which may be anything and any length.
    sentence = _ENUM.sub("Not one of the allowed values", _PATH.sub("", message))
    if missing:
        param = f"{where}.{missing[1]}" if where else missing[1]
        return lacking(f"{param} is missing.", param)
    if not where:
        return InvalidRequest(f"The body must be a JSON object. {sentence}.", param=None)
    return InvalidRequest(f"{where}: {sentence[:1].lower()}{sentence[1:]}.", param=where.replace("[...]", ""))


def lacking(sentence: str, param: str) -> InvalidRequest:
    """The error for a field that must be there."""
    return InvalidRequest(sentence, param=param, code="missing_required_parameter")


def not_json(why: str) -> InvalidRequest:
    """The error for a body that no reader of JSON takes."""
    return InvalidRequest(f"The body is not valid JSON: {why}.", code="invalid_json")


def _why(body: bytes, error: Exception) -> str:
    """What is wrong with it, as far as is known. The reader's own words tell a place and never a value."""
    if not body.strip():
        return "it is empty"
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {error.start})"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    words = str(error)
    if words.startswith(_MALFORMED):
        return words.removeprefix(_MALFORMED)
    return "it ends too early, or an escape in it is half of a surrogate pair"
