"""Identifiers and the wall clock."""

from __future__ import annotations

import re
import secrets
import socket
import time


def new_request_id() -> str:
    """``req_`` and 128 random bits."""
    return f"req_{secrets.token_hex(16)}"


def new_attempt_id() -> str:
    """``att_`` and 96 random bits."""
    return f"att_{secrets.token_hex(12)}"


def new_question_id() -> str:
    """``qst_`` and 96 random bits."""
    return f"qst_{secrets.token_hex(12)}"


def new_incarnation(role: str) -> str:
    """A name for this start of this process, fit for a topic: role, host and 64 random bits."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
    return f"{role}-{host}-{secrets.token_hex(8)}"


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
