"""Identifiers and the wall clock."""

from __future__ import annotations

import re
import secrets
import socket
import time


def new_request_id() -> str:
    """``req_``, the time in 48 bits and 80 random bits, as RFC 9562 makes UUIDs of version 7.

    Those of the same time are neighbours in every index of the ledger, which so grows at one end: a random id would
    touch a page of its own in each of them.
    """
    return f"req_{now_ms():012x}{secrets.token_hex(10)}"


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
