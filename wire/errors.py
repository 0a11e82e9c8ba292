"""One error tree, by what the caller can do about it.

Every class has ``code`` (what programs branch on), ``http_status``, ``type`` (OpenAI's coarse family) and
``retryable`` (whether the same request may succeed later). A node puts one on the link as :class:`ErrorBody`;
the gateway renders it as OpenAI's JSON in one place. The docstring is the default message: it is read by people.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

MESSAGE_CHARS_MAX = 2000


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels from a node to a gateway."""

    code: str
    message: str
    type: str = "server_error"
    param: str | None = None
    http_status: int = 500
    retryable: bool = False
    retry_after_ms: int | None = None


class FleetError(Exception):
    """Something went wrong on our side."""

    code: ClassVar[str] = "server_error"
    http_status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        self.message = (message or (type(self).__doc__ or "").split("\n", 1)[0])[:MESSAGE_CHARS_MAX]
        self.param = param
        self.own_code = code or self.code
        self.retry_after_ms = retry_after_ms
        super().__init__(self.message)

    def body(self) -> ErrorBody:
        """The same error as a word of the link."""
        return ErrorBody(
            code=self.own_code,
            message=self.message,
            type=self.type,
            param=self.param,
            http_status=self.http_status,
            retryable=self.retryable,
            retry_after_ms=self.retry_after_ms,
        )


class InvalidName(FleetError):
    """This name cannot be used."""

    code, http_status, type, retryable = "invalid_value", 400, "invalid_request_error", False


class UndecodableMessage(FleetError):
    """This message is not one of ours, or of a newer version than this program knows."""

    code, http_status, type, retryable = "undecodable_message", 500, "server_error", False


class InvalidRequest(FleetError):
    """The request cannot be understood."""

    code, http_status, type, retryable = "invalid_value", 400, "invalid_request_error", False


class LoopDetected(FleetError):
    """This request came from a node of this very fleet: its API_URL leads back here."""

    # No 5xx (508 would be the word): clients try those again.
    code, http_status, type, retryable = "loop_detected", 400, "invalid_request_error", False


class Unauthorized(FleetError):
    """No valid API key was given. Send it as 'Authorization: Bearer <key>'."""

    code, http_status, type, retryable = "invalid_api_key", 401, "invalid_request_error", False


class Forbidden(FleetError):
    """This API key may not do that."""

    code, http_status, type, retryable = "permission_denied", 403, "invalid_request_error", False


class ForeignPage(Forbidden):
    """Without a key only this machine is answered, as 127.0.0.1 or localhost, and no page of another site may act."""

    code = "foreign_page"


class NotFound(FleetError):
    """There is nothing at this address."""

    code, http_status, type, retryable = "not_found", 404, "invalid_request_error", False


class ModelNotFound(NotFound):
    """There is no such model here. GET /v1/models lists the ones there are."""

    code = "model_not_found"


class UnsupportedEndpoint(NotFound):
    """This model does not serve that endpoint here."""

    # OpenAI too says 404 to a model at the wrong endpoint.
    code = "unsupported_endpoint"


class MethodNotAllowed(FleetError):
    """This address does not take that HTTP method."""

    code, http_status, type, retryable = "method_not_allowed", 405, "invalid_request_error", False


class RequestTooSlow(FleetError):
    """The request's body did not arrive in time."""

    code, http_status, type, retryable = "request_timeout", 408, "invalid_request_error", True


class BodyTooLarge(FleetError):
    """The request's body is too large."""

    code, http_status, type, retryable = "request_too_large", 413, "invalid_request_error", False


class HeadTooLarge(FleetError):
    """The request's address and headers are too large."""

    code, http_status, type, retryable = "headers_too_large", 431, "invalid_request_error", False


class UnsupportedMediaType(FleetError):
    """Send the request as JSON, with 'content-type: application/json'."""

    code, http_status, type, retryable = "unsupported_media_type", 415, "invalid_request_error", False


class UpstreamRefused(FleetError):
    """The provider of this model refused the request."""

    code, http_status, type, retryable = "upstream_refused", 400, "invalid_request_error", False


class UpstreamFailed(FleetError):
    """The provider of this model failed to answer."""

    code, http_status, type, retryable = "upstream_failed", 502, "server_error", True


class EngineDied(FleetError):
    """The engine of this model ended while it worked on the request."""

    # Each of these counts against the request, as the death of its node does: see gateway/requests/conversation.py.
    code, http_status, type, retryable = "engine_died", 502, "server_error", True


class EngineAway(FleetError):
    """The engine of this model is starting."""

    code, http_status, type, retryable = "engine_away", 503, "server_error", True


class StreamInterrupted(FleetError):
    """The answer broke off because the node that wrote it went away, and it could not be continued elsewhere."""

    code, http_status, type, retryable = "stream_interrupted", 502, "server_error", True


class AnswerTooLarge(FleetError):
    """The answer is larger than this gateway passes on."""

    code, http_status, type, retryable = "answer_too_large", 502, "server_error", False


class RateLimited(FleetError):
    """A limit of this API key is reached. Try again later."""

    code, http_status, type, retryable = "rate_limit_exceeded", 429, "rate_limit_error", True


class InsufficientQuota(FleetError):
    """A budget has no room for this request."""

    code, http_status, type, retryable = "insufficient_quota", 429, "insufficient_quota", False


class BudgetsUnavailable(FleetError):
    """Budgets cannot be checked at the moment. Try again shortly."""

    code, http_status, type, retryable = "budgets_unavailable", 503, "server_error", True


class KeysUnavailable(FleetError):
    """API keys cannot be checked at the moment. Try again shortly."""

    code, http_status, type, retryable = "keys_unavailable", 503, "server_error", True


class Overloaded(FleetError):
    """This gateway has as many requests as it may hold. Try again later."""

    code, http_status, type, retryable = "overloaded", 503, "server_error", True


class ModelUnavailable(FleetError):
    """Every node of this model is out of order."""

    code, http_status, type, retryable = "model_unavailable", 503, "server_error", True


class QueueUnavailable(FleetError):
    """The queue cannot be reached at the moment. Try again shortly."""

    code, http_status, type, retryable = "queue_unavailable", 503, "server_error", True


class ShuttingDown(FleetError):
    """This gateway is shutting down. Send the request again."""

    code, http_status, type, retryable = "shutting_down", 503, "server_error", True


class DeadlineExceeded(FleetError):
    """The request was not answered before its deadline."""

    code, http_status, type, retryable = "deadline_exceeded", 504, "server_error", False


class RequestCancelled(FleetError):
    """An operator has cancelled this request."""

    # Not 409, which clients try again by themselves.
    code, http_status, type, retryable = "request_cancelled", 410, "invalid_request_error", False


class Poison(FleetError):
    """This request brought down every node that worked on it, and will not be tried again."""

    code, http_status, type, retryable = "request_poisonous", 500, "server_error", False


def _tree(of: type[FleetError]) -> list[type[FleetError]]:
    return [of, *(below for child in of.__subclasses__() for below in _tree(child))]


STATUSES = frozenset(each.http_status for each in _tree(FleetError))
"""Every HTTP status that an error may have when no node gave it."""
CODES_BESIDE = (
    "cannot_continue",
    "content_filter",
    "context_length_exceeded",
    "invalid_http",
    "invalid_json",
    "missing_required_parameter",
    "model_loading",
    "no_chat_template",
    "unsupported_parameter",
    "upstream_authentication_failed",
    "upstream_model_unknown",
    "upstream_quota_exhausted",
    "upstream_rate_limited",
    "upstream_timeout",
    "upstream_tls_failed",
)
"""Codes that some errors are given instead of their class's."""
CODES = frozenset((*(each.code for each in _tree(FleetError)), *CODES_BESIDE))
"""Every code of ours. A provider's refusal may bear another one, which is the provider's own."""
