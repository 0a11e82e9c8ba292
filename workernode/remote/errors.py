"""What a provider's failure means for a request: one table, and the reading of error bodies in their many shapes.

The provider's own words reach only the client whose request it refused, bounded and without the API key. What hands a
request back has sentences of ours: they also end in logs and events, and a provider's words may repeat the prompt.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from workernode.remote.stated import stated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workernode.remote.stated import Stated

ERROR_BYTES_MAX = 64 * 1024
"""Of an error's body no more than this is read."""
RETRY_AFTER_S_MAX = 24 * 3600
_RETRY_AFTER_MS = ("retry-after-ms", "x-ms-retry-after-ms")
_WORD_CHARS_MAX = 128
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


@dataclass(frozen=True)
class _Rule:
    sentence: str
    refused: bool = False
    again: bool = False
    code: str = UpstreamFailed.code
    http_status: int = UpstreamFailed.http_status
    type: str = UpstreamFailed.type


_REFUSED = _Rule("The provider of this model refused the request.", refused=True)
_AGAIN = _Rule("The provider of this model failed to answer.", again=True)
_AUTHENTICATION = _Rule(
    "The provider of this model does not accept this node's API key.", code="upstream_authentication_failed"
)
_QUOTA = _Rule("The quota of this node at the provider of this model is used up.", code="upstream_quota_exhausted")
_RATE = _Rule(
    # Not tried again here: the request waits in the queue for any node that may ask, and not in a slot for this one.
    "The provider of this model limits the rate of requests.",
    code="upstream_rate_limited",
    http_status=429,
    type="rate_limit_error",
)
_STRANGE = _Rule("The provider of this model gave something that is no answer: API_URL may be wrong.")

_RULES = {
    400: _REFUSED,
    401: _AUTHENTICATION,
    402: _QUOTA,
    403: _AUTHENTICATION,
    404: _REFUSED,
    408: _AGAIN,
    409: _AGAIN,
    413: _REFUSED,
    422: _REFUSED,
    429: _RATE,
}
_RULES_BY_CLASS = {4: _REFUSED, 5: _AGAIN}
"""For the statuses not named above, by their first digit; what is in neither table is strange."""
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
    status: int, headers: Mapping[str, str], body: bytes | bytearray, *, key: str | None, now_s: float
) -> Failure:
    """What follows from an answer that is an error. ``now_s`` is Unix time: Retry-After may be a date."""
    error = provider_error(body)
    rule = _rule(status, error)
    wait_s = retry_after_s(headers, now_s)
    if wait_s is None and error is not None:
        wait_s = error.retry_s
    if rule.refused:
        return Failure(Refused(_refusal(status, error, key)))
    failure = Failure(Later(_handed_back(rule, wait_s)), again=rule.again, wait_s=wait_s or 0.0)
    failure.said = stated(headers, now_s)
    return failure


def failure_inside(body: bytes | bytearray, *, key: str | None) -> Failure:
    """What follows from an error that came with status 200: its code may be a status, or it is a failure."""
    error = provider_error(body)
    if error is None:
        return strange()
    if error.code is not None and error.code.isdecimal() and 400 <= int(error.code) <= 599:
        status = int(error.code)
    else:
        status = 400 if error.type == "invalid_request_error" else 500
    return failure_of(status, {}, body, key=key, now_s=0.0)


def failed_inside() -> Failure:
    """The provider ended its answer with a word that says that it is none."""
    return Failure(Later(_handed_back(_AGAIN, None)), again=True)


def unreachable() -> Failure:
    """No connection, or it broke before anything of the answer was shown."""
    return Failure(Later(UpstreamFailed("The provider of this model could not be reached.").body()), again=True)


def too_slow() -> Failure:
    """Nothing came in time. It is not tried again here: each try costs as much time, and is billed."""
    error = UpstreamFailed("The provider of this model did not answer in time.", code="upstream_timeout")
    return Failure(Later(error.body()))


def strange() -> Failure:
    """Something came that is no answer: a web page, another protocol, nothing at all."""
    return Failure(Later(_handed_back(_STRANGE, None)))


def limited(wait_s: float) -> Failure:
    """The provider wants to be left alone for so long: it is not asked."""
    return Failure(Later(_handed_back(_RATE, wait_s)))


def is_limit(failure: Failure) -> bool:
    """Whether the provider refused for the rate."""
    return failure.outcome.error.code == _RATE.code


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
        raise Failure(Later(_handed_back(_AUTHENTICATION, None)))
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
    if isinstance(parsed.get("message"), str):
        return _read(parsed)
    if parsed.get("detail"):
        detail = parsed["detail"]
        return _read({"message": detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()})
    return None


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


def masked(text: str, key: str | None) -> str:
    """``text`` without the API key."""
    return text.replace(key, "***") if key and len(key) >= _KEY_CHARS_MIN else text


def _rule(status: int, error: ProviderError | None) -> _Rule:
    if error is not None and "insufficient_quota" in (error.code, error.type):
        return _QUOTA
    if status == 404 and error is None:
        return _STRANGE  # a web server that knows no such path, rather than a provider that knows no such model
    return _RULES.get(status) or _RULES_BY_CLASS.get(status // 100, _STRANGE)


def _refusal(status: int, error: ProviderError | None, key: str | None) -> ErrorBody:
    error = error or ProviderError()

    def word(text: str | None) -> str | None:
        return masked(text, key)[:_WORD_CHARS_MAX] if text else None

    return ErrorBody(
        code=word(error.code) or UpstreamRefused.code,
        message=masked(error.message, key)[:MESSAGE_CHARS_MAX] or _REFUSED.sentence,
        type=word(error.type) or UpstreamRefused.type,
        param=word(error.param),
        http_status=status if status in _PASSED_STATUSES else UpstreamRefused.http_status,
    )


def _handed_back(rule: _Rule, wait_s: float | None) -> ErrorBody:
    return ErrorBody(
        code=rule.code,
        message=rule.sentence,
        type=rule.type,
        http_status=rule.http_status,
        retryable=True,
        retry_after_ms=None if wait_s is None else round(wait_s * 1000),
    )


def _read(error: dict[str, Any]) -> ProviderError:
    def word(name: str) -> str | None:
        value = error.get(name)
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None

    return ProviderError(word("message") or "", word("type"), word("code"), word("param"), _retry_info(error))


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
