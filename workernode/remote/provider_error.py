"""An error as a provider words it: the reading of bodies in their many shapes, and of when to come back."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_AFTER_S_MAX = 24 * 3600
_RETRY_AFTER_MS = ("retry-after-ms", "x-ms-retry-after-ms")
_NO_MESSAGE = "provider returned error"
"""OpenRouter's, beside what the provider behind it said."""
_REASONS = ("reason", "error_type", "limit_source")
"""Where OpenRouter says what its code, which is the status, does not."""


@dataclass(frozen=True)
class ProviderError:
    """An error as a provider words it, as far as it does."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_s: float | None = None
    """When to come back: Google says it here, and in no header."""


def provider_error(body: bytes | bytearray) -> ProviderError | None:
    """Read an error's body: OpenAI's shape, or one of those others use. None if it is none."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]  # Google's
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error")
    if isinstance(error, dict):
        return _read(error)
    if isinstance(error, str) and error:
        return _read({**parsed, "message": error})
    message = parsed.get("message")
    if isinstance(message, str):
        return _read(parsed)
    match parsed.get("errors"):
        case [dict() as first, *_]:
            return _read(first)  # Cloudflare's
        case _:
            pass
    if "error_code" in parsed:
        return _read({**parsed, "message": parsed.get("text")})  # FastChat's in a stream
    detail = parsed.get("detail") or (message.get("detail") if isinstance(message, dict) else None)
    return _read({**parsed, **_of_detail(detail)}) if detail else None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the upstream wants to be left alone: in milliseconds, or ``retry-after`` in seconds or as a date."""
    for name in _RETRY_AFTER_MS:
        if (millis := _number(headers.get(name))) is not None:
            return min(millis / 1000, RETRY_AFTER_S_MAX)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value:
        try:
            seconds = max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(seconds, RETRY_AFTER_S_MAX)


def _of_detail(detail: Any) -> dict[str, Any]:
    """Message and parameter of what a validator found, FastAPI's form."""
    if isinstance(detail, str):
        return {"message": detail}
    found = detail if isinstance(detail, list) else [detail]
    if not all(isinstance(each, dict) and isinstance(each.get("msg"), str) for each in found):
        return {"message": msgspec.json.encode(detail).decode()}
    places = [_place(each.get("loc")) for each in found]
    said = [
        f"{'.'.join(place)}: {each['msg']}" if place else each["msg"] for place, each in zip(places, found, strict=True)
    ]
    return {"message": "; ".join(said), "param": places[0][-1] if places[0] else None}


def _place(loc: Any) -> list[str]:
    return [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []


def _read(error: dict[str, Any]) -> ProviderError:
    def word(name: str) -> str | None:
        value = error.get(name)
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None

    message, metadata = word("message") or "", error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if message.lower() == _NO_MESSAGE and isinstance(raw := metadata.get("raw"), str):
        inner = provider_error(raw.encode(errors="replace"))
        message = inner.message if inner is not None and inner.message else raw
    reason = next((each for name in _REASONS if isinstance(each := metadata.get(name), str)), None)
    kind = word("type") or word("status") or reason
    return ProviderError(message, kind, word("code") or word("error_code"), word("param"), _retry_info(error))


def _retry_info(error: dict[str, Any]) -> float | None:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(delay := detail.get("retryDelay"), str) and delay.endswith("s"):
            seconds = _number(delay[:-1])
            return None if seconds is None else min(seconds, RETRY_AFTER_S_MAX)
    return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None
