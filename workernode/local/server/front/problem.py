"""What a request gets instead of an answer, as OpenAI's error JSON."""

from __future__ import annotations

from process.http_errors import error_json
from wire.errors import ErrorBody


class Problem(Exception):
    """An error for the client. ``message`` is a sentence without anything of the prompt."""

    def __init__(
        self, message: str, *, code: str = "invalid_value", status: int = 400, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.param = param

    def json(self) -> bytes:
        """The body of the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return error_json(ErrorBody(code=self.code, message=self.message, type=kind, param=self.param))


def unsupported(field: str, sentence: str | None = None) -> Problem:
    """A field that this server cannot obey."""
    message = sentence or f"This model server does not support '{field[:64]}'."
    return Problem(message, code="unsupported_parameter", param=field[:64])
