"""Says what is missing from an answer of the chat completions endpoint; for ai.sh. Ends with 0 for a complete one.

Any Python 3 runs it: where there is no environment of the checkout's, it is the system's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> str | None:
    """What is wrong with the answer, or None."""
    stream = sys.argv[1] == "true"
    head, answer = (Path(each).read_text(encoding="utf-8", errors="replace") for each in sys.argv[2:4])
    # A 100 Continue, or a redirect, has a status line of its own: the last one counts.
    statuses = [line.split()[1] for line in head.splitlines() if line.startswith("HTTP/")]
    if not statuses or statuses[-1] != "200":
        return f"the gateway answered with status {statuses[-1] if statuses else 'none'}"
    try:
        return _missing_in_stream(answer) if stream else _missing_in_json(json.loads(answer))
    except ValueError:
        return "the answer is not whole JSON"


def _missing_in_json(answer: object) -> str | None:
    return None if _is_finished(answer) else "the answer has no choices[0].finish_reason"


def _missing_in_stream(answer: str) -> str | None:
    data = [line.removeprefix("data:").strip() for line in answer.split("\n") if line.startswith("data:")]
    if not data or data[-1] != "[DONE]":
        return "the stream did not end with data: [DONE]" + _error_in(data)
    if error := _error_in(data[:-1]):
        return f"the stream holds an error{error}"
    finished = any(_is_finished(json.loads(part)) for part in data[:-1])
    return None if finished else "no part of the stream has a finish_reason"


def _error_in(data: list[str]) -> str:
    parts = [json.loads(part) for part in data if part != "[DONE]"]
    errors = [part["error"] for part in parts if isinstance(part, dict) and part.get("error")]
    return f": {json.dumps(errors[0])}" if errors else ""


def _is_finished(answer: object) -> bool:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return bool(first.get("finish_reason")) if isinstance(first, dict) else False


if __name__ == "__main__":
    if problem := main():
        sys.exit(f"ai.sh: {problem}")
