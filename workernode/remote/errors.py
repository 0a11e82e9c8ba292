"""A provider's failure: the reading of error bodies in their many shapes, and what :mod:`.rules` makes of them.

The provider's own words reach only the client whose request it refused, bounded and without the API key. What hands a
request back has sentences of ours: they also end in logs and events, and a provider's words may repeat the prompt. Of
lasting trouble, with a key, an account or a model, its words are told to the operator too.
"""

from __future__ import annotations

import email.utils
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from wire.errors import (
    MESSAGE_CHARS_MAX,
    ErrorBody,
    StreamInterrupted,
    UnsupportedEndpoint,
    UpstreamFailed,
    UpstreamRefused,
)
from workernode.outcome import Later, Refused
from workernode.prompts import estimated_tokens
from workernode.remote.rules import (
    AGAIN,
    AUTHENTICATION,
    AWAY,
    LASTING,
    NAMELESS,
    PROXY,
    QUOTA,
    RATE,
    REFUSED,
    STRANGE,
    TLS,
    TOO_LARGE,
    Rule,
    row_for,
)
from workernode.remote.stated import stated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workernode.remote.stated import Stated

ERROR_BYTES_MAX = 1024 * 1024
"""Of an error's body no more than this is read; some repeat the whole request in it."""
RETRY_AFTER_S_MAX = 24 * 3600
_RETRY_AFTER_MS = ("retry-after-ms", "x-ms-retry-after-ms")
_WORD_CHARS_MAX = 128
_SAID_CHARS_MAX = 500
_COMPARED_BYTES_MAX = 256 * 1024
_TEXT_CHARS_MIN = 4
_PHRASE_CHARS = 16
"""So many characters in a row are the same by chance only in idioms."""
_STATUS = re.compile(r"[45]\d\d")
_REFUSALS = ("invalid_request_error", "badrequesterror", "bad_request", "invalid_argument")
_NO_MESSAGE = "provider returned error"
"""OpenRouter's, beside what the provider behind it said."""
_REASONS = ("reason", "error_type", "limit_source")
"""Where OpenRouter says what its code, which is the status, does not."""
_INPUT_LIMIT = re.compile(r"\brate limit\b.{0,120}\bof (\d[\d,]{0,15}) input tokens per minute", re.IGNORECASE)
"""Anthropic's words for a minute that is full, and for one request that is larger than any minute."""
_FEWER_TOKENS = re.compile(r"\bor fewer max_tokens\b", re.IGNORECASE)
"""OpenRouter's, for one request that is too dear for what is left of the credit."""
_KEY_CHARS_MIN = 8
"""A shorter key is a placeholder such as ``none``: masking it would only garble sentences."""


class Failure(Exception):
    """The upstream gave no answer. ``outcome`` is what follows if nothing more is tried.

    ``again``: the same request may succeed here after a moment, ``wait_s`` at the earliest. ``said``: the limits that
    the upstream stated beside it.
    """

    def __init__(self, outcome: Refused | Later, *, again: bool = False, wait_s: float = 0.0) -> None:
        self.outcome = outcome
        self.again = again
        self.wait_s = wait_s
        self.said: list[Stated] = []
        super().__init__(outcome.error.code)


_PASSED_STATUSES = (400, 404, 413, 422)
"""A refusal's status is passed on if it is one of these, else it becomes 400."""


@dataclass(frozen=True)
class ProviderError:
    """An error as a provider words it, as far as it does."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_s: float | None = None
    """When to come back: Google says it here, and in no header."""


def failure_of(
    status: int | None,
    headers: Mapping[str, str],
    body: bytes | bytearray,
    *,
    key: str | None,
    now_s: float,
    sent: bytes | None = None,
) -> Failure:
    """What follows from an answer that is an error; ``status`` is None where a good one came with it.

    ``now_s`` is Unix time: Retry-After may be a date. ``sent`` is the request's body, which no words may repeat.
    """
    error = provider_error(body)
    row = row_for(status, error)
    rule = row.rule
    if rule in LASTING and sent is not None and (said := row.by_saying(error)) is not None and _wrote(said, sent):
        rule = REFUSED  # or any client could make a provider say what puts all nodes to rest
    if error is not None and sent is not None and _asks_too_much(rule, error, sent):
        rule = TOO_LARGE  # it would come back first, and be refused, until its deadline: nobody else had a turn
    wait_s = retry_after_s(headers, now_s)
    if wait_s is None and error is not None:
        wait_s = error.retry_s
    if rule.refused:
        return Failure(Refused(_refusal(rule, status, error, key)))
    later = Later(_handed_back(rule, wait_s), said=_words(rule, error, key, sent))
    failure = Failure(later, again=rule.again, wait_s=wait_s or 0.0)
    failure.said = stated(headers, now_s)
    return failure


def failure_inside(body: bytes | bytearray, *, key: str | None, sent: bytes | None = None) -> Failure:
    """What follows from an error that came with status 200: its code may be a status, or its type tells, or neither."""
    error = provider_error(body)
    if error is None:
        return strange()
    status = next((int(word) for word in (error.code, error.type) if word and _STATUS.fullmatch(word)), None)
    if status is None and (error.type or "").lower() in _REFUSALS:
        status = 400
    return failure_of(status, {}, body, key=key, now_s=0.0, sent=sent)


def failed_inside() -> Failure:
    """The provider ended its answer with a word that says that it is none."""
    return Failure(Later(_handed_back(AGAIN, None)), again=True)


def unreachable(why: BaseException | None = None) -> Failure:
    """No connection, or it broke before anything of the answer was shown."""
    if (reason := _tls_reason(why)) is not None:
        return Failure(Later(_handed_back(TLS, None), said=reason))
    rule = AWAY
    match why:
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            rule = PROXY
        case aiohttp.ClientConnectorDNSError():
            rule = NAMELESS
        case _:
            pass
    return Failure(Later(_handed_back(rule, None)), again=rule.again)


def too_slow() -> Failure:
    """Nothing came in time. It is not tried again here: each try costs as much time, and is billed."""
    error = UpstreamFailed("The provider of this model did not answer in time.", code="upstream_timeout")
    return Failure(Later(error.body()))


def strange() -> Failure:
    """Something came that is no answer: a web page, another protocol, nothing at all."""
    return Failure(Later(_handed_back(STRANGE, None)))


def empty() -> Failure:
    """A proper answer without a single choice, as Gemini gives where its policy forbids one."""
    sentence = "The provider of this model gave no answer to this: its content policy may forbid it."
    refused = UpstreamRefused(sentence, code="content_filter").body()
    return Failure(Refused(msgspec.structs.replace(refused, http_status=400)))


def limited(wait_s: float) -> Failure:
    """The provider wants to be left alone for so long: it is not asked."""
    return Failure(Later(_handed_back(RATE, wait_s), asked=False))


def is_limit(failure: Failure) -> bool:
    """Whether the provider refused for the rate."""
    return failure.outcome.error.code == RATE.code


def unserved() -> Failure:
    """The upstream has no such endpoint, whatever else it serves well."""
    return Failure(Refused(UnsupportedEndpoint("The provider of this model does not serve this endpoint.").body()))


def after_first_token(failure: Failure) -> Failure:
    """The same failure, when a part of the answer was shown already: nobody else can answer then."""
    if isinstance(failure.outcome, Refused):
        return failure
    error = failure.outcome.error
    return Failure(Refused(msgspec.structs.replace(UpstreamFailed().body(), message=error.message)))


def interrupted() -> Failure:
    """The answer broke off after its first part."""
    return Failure(Refused(StreamInterrupted("The provider of this model broke off its answer.").body()))


def usable(key: str | None) -> str | None:
    """The API key as a header can carry it; none if it is empty. Raises :class:`Failure` if no header can."""
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise Failure(Later(_handed_back(AUTHENTICATION, None)))
    return key or None


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


def _asks_too_much(rule: Rule, error: ProviderError, sent: bytes) -> bool:
    """Whether it is this request that is too large, and not the minute that is full or the account that is empty."""
    if rule is RATE:
        limit = _INPUT_LIMIT.search(error.message)
        return limit is not None and estimated_tokens(sent) > int(limit[1].replace(",", ""))
    # Of a request that bounds itself the client can ask for less. One that does not is measured by the model's most.
    return rule is QUOTA and _FEWER_TOKENS.search(error.message) is not None and _bounds_itself(sent)


def _bounds_itself(sent: bytes) -> bool:
    try:
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return any(body.get(name) is not None for name in ("max_tokens", "max_completion_tokens"))


def _words(rule: Rule, error: ProviderError | None, key: str | None, sent: bytes | None) -> str:
    """What an operator needs to hear of an account, a key or a model, unless it repeats what the client sent."""
    if error is None or sent is None or rule not in LASTING:
        return ""
    words = masked(error.message, key)[:_SAID_CHARS_MAX]
    return "" if _repeats(words.lower(), sent) else words


def _repeats(words: str, sent: bytes) -> bool:
    """Whether a text of the request is in the words, or a part of it that is no mere phrase."""
    if len(sent) > _COMPARED_BYTES_MAX:
        return True  # nobody knows
    try:
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    texts = [text.lower() for text in _texts(body) if len(text) >= _TEXT_CHARS_MIN]
    parts = {words[start : start + _PHRASE_CHARS] for start in range(len(words) - _PHRASE_CHARS + 1)}
    return any(text in words or any(part in text for part in parts) for text in texts)


def _wrote(words: str, sent: bytes) -> bool:
    """Whether the words stand in a text of the request, or in the name of a field."""
    try:
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # nobody knows
    return any(words in text.lower() for text in _strings(body))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _texts(value: Any, name: str = "") -> Iterator[str]:
    """All texts of a body but the model's name, which an error may well repeat."""
    if isinstance(value, str):
        if name not in ("model", "role", "type"):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _tls_reason(why: BaseException | None) -> str | None:
    """Why TLS cannot be had at all, in OpenSSL's words; None if that is not what failed."""
    inner: BaseException
    match why:
        case aiohttp.ClientConnectorCertificateError(certificate_error=inner):
            pass
        case aiohttp.ClientConnectorSSLError(os_error=inner) if not isinstance(inner, ssl.SSLEOFError):
            pass  # an end in mid-handshake is a connection that broke
        case _:
            return None
    reason = getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__
    return str(reason).lower().replace("_", " ")[:_SAID_CHARS_MAX]


def masked(text: str, key: str | None) -> str:
    """``text`` without the API key."""
    return text.replace(key, "***") if key and len(key) >= _KEY_CHARS_MIN else text


def _refusal(rule: Rule, status: int | None, error: ProviderError | None, key: str | None) -> ErrorBody:
    error = error or ProviderError()

    def word(text: str | None) -> str | None:
        return masked(text, key)[:_WORD_CHARS_MAX] if text else None

    return ErrorBody(
        code=rule.code or word(error.code) or UpstreamRefused.code,
        message=masked(error.message, key)[:MESSAGE_CHARS_MAX] or rule.sentence,
        type=word(error.type) or UpstreamRefused.type,
        param=word(error.param),
        http_status=rule.http_status or (status if status in _PASSED_STATUSES else None) or UpstreamRefused.http_status,
    )


def _handed_back(rule: Rule, wait_s: float | None) -> ErrorBody:
    return ErrorBody(
        code=rule.code or UpstreamFailed.code,
        message=rule.sentence,
        type=rule.type,
        http_status=rule.http_status or UpstreamFailed.http_status,
        retryable=True,
        retry_after_ms=None if wait_s is None else round(wait_s * 1000),
    )


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
    return ProviderError(message, kind, word("code"), word("param"), _retry_info(error))


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
