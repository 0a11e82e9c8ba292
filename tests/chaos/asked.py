"""One call of a client as the client saw it: a line of the client log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.oracle import DIVERGE, text_of
from tests.fake_upstream import oracle_usage

End = Literal["open", "answered", "failed", "refused", "hung_up", "broken", "both"]
"""``failed``: a typed error after acceptance. ``refused``: one before it. ``broken``: the connection ended without an
end. ``both``: ``[DONE]`` and an error."""

UNREACHED = "unreached"
"""There was no connection to the gateway at all."""
REFUSALS = frozenset(
    {
        UNREACHED,
        "overloaded",
        "queue_unavailable",
        "model_unavailable",
        "model_not_found",
        "shutting_down",
        "invalid_api_key",
        "invalid_value",
        "request_too_large",
        "unsupported_media_type",
    }
)
"""Codes with which a gateway turns a request away: nothing was accepted."""


@dataclass
class Asked:
    """What was asked, of whom, and everything that came back."""

    number: int
    body: dict[str, Any]
    life: str
    """The start of the gateway that it went to."""
    timeout_s: float
    began_at: float
    short: bool = False
    """Whether its deadline may pass before its answer is whole."""
    hang_up_after: int | None = None
    """The client leaves after that many parts of the answer."""
    ended_at: float | None = None
    status: int | None = None
    request_id: str | None = None
    text: str = ""
    done: bool = False
    """The answer's proper end came: ``[DONE]``, or the whole of a JSON body."""
    error: dict[str, Any] | None = None
    broken: str | None = None
    hung_up: bool = False
    ids: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    """Fingerprints of the executions whose pieces came, in the order of their coming, each as often as it began."""
    usage: dict[str, Any] | None = None
    parts: int = 0
    """Chunks of a stream that came."""

    def take_whole(self, body: bytes) -> None:
        """Write down a JSON body. Raises :class:`ValueError` for half of one."""
        answer = json.loads(body)
        if "error" in answer:
            self.error = answer["error"]
            return
        self.text = answer["choices"][0]["message"]["content"]
        self.usage = answer["usage"]
        self._mark(answer)
        self.done = answer["choices"][0]["finish_reason"] == "stop"

    def take_line(self, line: bytes) -> None:
        """Write down one line of an event stream."""
        if not line.startswith(b"data: "):
            return
        if line.startswith(b"data: [DONE]"):
            self.done = True
            return
        chunk = json.loads(line[6:])
        if "error" in chunk:
            self.error = chunk["error"]
            return
        self._mark(chunk)
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            self.text += choice["delta"].get("content") or ""
        self.parts += 1

    @property
    def leaves_now(self) -> bool:
        """Whether its client has seen as much of the answer as it wanted."""
        return self.hang_up_after is not None and self.parts >= self.hang_up_after

    @property
    def name(self) -> str:
        """The first word of the prompt, which is the first word of the answer."""
        return f"r{self.number}"

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def diverges(self) -> bool:
        """Whether each execution answers with another text."""
        return DIVERGE in self.body["messages"][-1]["content"].split()

    def expected_text(self, execution: int) -> str:
        """What the oracle says in this execution."""
        return text_of(self.body, execution)

    @property
    def expected_usage(self) -> tuple[int, int, int]:
        """Prompt, completion and cached tokens, as the oracle says."""
        usage = oracle_usage(self.body)
        return usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.error.get("code") if self.error else None

    @property
    def end(self) -> End:
        """How it ended for the client."""
        if self.error is not None:
            if self.done:
                return "both"
            return "refused" if self.code in REFUSALS and not self.text else "failed"
        if self.done:
            return "answered"
        if self.hung_up:
            return "hung_up"
        return "open" if self.ended_at is None else "broken"

    def _mark(self, chunk: dict[str, Any]) -> None:
        self.ids.add(chunk["id"])
        fingerprint = chunk.get("system_fingerprint") or ""
        if fingerprint not in self.runs[-1:]:
            self.runs.append(fingerprint)

    def __str__(self) -> str:
        what = "stream" if self.stream else "whole"
        told = f" {self.code}" if self.code else f" {self.broken}" if self.broken else ""
        return f"{self.name} ({what}, {self.life}, {self.request_id}) {self.end}{told} with {self.text[-60:]!r}"
