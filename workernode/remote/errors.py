"""A provider's failure, and what follows from it by :mod:`.rules`.

The provider's own words reach only the client whose request it refused, bounded and without the API key. What hands a
request back has sentences of ours: they also end in logs and events, and a provider's words may repeat the prompt. Of
lasting trouble, with a key, an account or a model, its words are told to the operator too.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

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
from workernode.remote.privacy import masked, repeats, stands_in
from workernode.remote.provider_error import ProviderError, provider_error, retry_after_s
from workernode.remote.rules import (
    AGAIN,
    AUTHENTICATION,
    AWAY,
    GARBLED,
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
    from collections.abc import Mapping

    from workernode.remote.stated import Stated

ERROR_BYTES_MAX = 1024 * 1024
"""Of an error's body no more than this is read; some repeat the whole request in it."""
_WORD_CHARS_MAX = 128
_SAID_CHARS_MAX = 500
_PASSED_STATUSES = (400, 404, 413, 422)
"""A refusal's status is passed on if it is one of these, else it becomes 400."""
_STATUS = re.compile(r"[45]\d\d")
_REFUSALS = ("invalid_request_error", "badrequesterror", "bad_request", "invalid_argument")
_INPUT_LIMIT = re.compile(r"\brate limit\b.{0,120}\bof (\d[\d,]{0,15}) input tokens per minute", re.IGNORECASE)
"""Anthropic's words for a minute that is full, and for one request that is larger than any minute."""
_FEWER_TOKENS = re.compile(r"\bor fewer max_tokens\b", re.IGNORECASE)
"""OpenRouter's, for one request that is too dear for what is left of the credit."""


_TLS_ONLY = re.compile(
    rb"plain HTTP request was sent to HTTPS port|sent an HTTP request to an HTTPS server"
    rb"|speaking plain HTTP to an SSL-enabled server port",
    re.IGNORECASE,
)
"""nginx's words, Go's and Apache's, with 400, as if it were the request's fault."""


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
    if error is None and status == 400 and (tls := _TLS_ONLY.search(body)) is not None:
        words = tls[0].decode()
        if sent is None or not stands_in(words.lower(), sent):
            return Failure(Later(_handed_back(TLS, None), said=words))
    row = row_for(status, error)
    rule = row.rule
    if rule in LASTING and sent is not None and (said := row.by_saying(error)) is not None and stands_in(said, sent):
        rule = REFUSED  # or any client could make a provider say what puts all nodes to rest
    if error is not None and sent is not None and _asks_too_much(rule, error, sent):
        rule = TOO_LARGE  # it would come back first, and be refused, until its deadline: nobody else had a turn
    wait_s = retry_after_s(headers, now_s)
    if wait_s is None and error is not None:
        wait_s = error.retry_s
    if rule.refused:
        return Failure(Refused(_refusal(rule, status, error or _plain(body), key)))
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
        case aiohttp.ClientResponseError():
            rule = GARBLED
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


def is_strange(failure: Failure) -> bool:
    """Whether what came is no answer."""
    return failure.outcome.error.message == STRANGE.sentence


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
    message = AGAIN.sentence if is_strange(failure) else failure.outcome.error.message  # the address was right
    return Failure(Refused(msgspec.structs.replace(UpstreamFailed().body(), message=message)))


def interrupted() -> Failure:
    """The answer broke off after its first part."""
    return Failure(Refused(StreamInterrupted("The provider of this model broke off its answer.").body()))


def usable(key: str | None) -> str | None:
    """The API key as a header can carry it; none if it is empty. Raises :class:`Failure` if no header can."""
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise Failure(Later(_handed_back(AUTHENTICATION, None)))
    return key or None


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
    return "" if repeats(words.lower(), sent) else words


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


def _plain(body: bytes | bytearray) -> ProviderError:
    """Words without any form, in which DeepSeek's and other servers tell what they cannot read; of a web page none."""
    text = " ".join(body[: 4 * MESSAGE_CHARS_MAX].decode(errors="ignore").split())
    return ProviderError(text if text.isprintable() and not text.startswith("<") else "")


def _refusal(rule: Rule, status: int | None, error: ProviderError, key: str | None) -> ErrorBody:
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
