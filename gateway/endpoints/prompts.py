"""Prompts and inputs: a text, a list of texts, a list of tokens, or a list of such lists."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.endpoints.reading import invalid, not_json
from wire.errors import InvalidRequest

PROMPTS_MAX = 2048
"""Of one request, as OpenAI counts inputs of embeddings."""
PROMPT_TOKENS_MAX = 300_000
"""Of all prompts of a request together, where they are given as tokens."""

_Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Tokens = Annotated[list[_Token], Meta(min_length=1)]
_Texts = Annotated[list[str], Meta(min_length=1, max_length=PROMPTS_MAX)]
_TokenLists = Annotated[list[_Tokens], Meta(min_length=1, max_length=PROMPTS_MAX)]
_FORMS = [msgspec.json.schema(form) for form in (str, _Texts, _Tokens, _TokenLists)]

Prompts = Annotated[msgspec.Raw, Meta(extra_json_schema={"oneOf": _FORMS})]
"""The field, not yet parsed: see :func:`count`."""

_text = msgspec.json.Decoder(str)
_texts = msgspec.json.Decoder(_Texts)
_tokens = msgspec.json.Decoder(_Tokens)
_token_lists = msgspec.json.Decoder(_TokenLists)
_FIRST = re.compile(rb"\[\s*(.)", re.DOTALL)


def count(raw: msgspec.Raw, param: str, *, empty: bool = True) -> int:
    """How many prompts a field holds. ``empty`` allows empty texts. Raises :class:`wire.errors.InvalidRequest`."""
    data = bytes(raw)
    if data.startswith(b'"'):
        _check_texts([_read(_text, data, param)], param, empty)
        return 1
    first = _FIRST.match(data)
    match first[1] if first else b"":
        case b'"':
            texts: list[str] = _read(_texts, data, param)
            _check_texts(texts, param, empty)
            return len(texts)
        case b"[":
            _check_size(data, param)
            return len(_read(_token_lists, data, param))
        case b"]":
            raise InvalidRequest(f"{param} is an empty list.", param=param)
        case b"":
            raise InvalidRequest(f"{param} is a text, a list of texts, or tokens in one list or several.", param=param)
        case _:
            _check_size(data, param)
            _read(_tokens, data, param)
            return 1


def _read(decoder: msgspec.json.Decoder[Any], data: bytes, param: str) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise invalid(str(error), within=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(f"an escape in {param} stands for no character") from None


def _check_texts(texts: list[str], param: str, empty: bool) -> None:
    if not empty and not all(texts):
        raise InvalidRequest(f"{param} holds an empty text.", param=param)


def _check_size(data: bytes, param: str) -> None:
    # Counted before they become objects: four million bytes may be two million numbers.
    if data.count(b",") >= PROMPT_TOKENS_MAX:
        raise InvalidRequest(f"{param} holds more than {PROMPT_TOKENS_MAX} tokens.", param=param)
