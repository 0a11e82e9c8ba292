"""Says what is missing from an answer of the chat completions endpoint; for ai.sh. Ends with 0 for a complete one."""

import json
import sys
from pathlib import Path


def main() -> str | None:
    """What is wrong with the answer, or None."""
    stream, head, answer = sys.argv[1] == "true", Path(sys.argv[2]).read_text(), Path(sys.argv[3]).read_text()
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
    data = [line.removeprefix("data:").strip() for line in answer.splitlines() if line.startswith("data:")]
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
    match answer:
        case {"choices": [{"finish_reason": str(reason)}, *_]}:
            return bool(reason)
    return False


if __name__ == "__main__":
    if problem := main():
        sys.exit(f"ai.sh: {problem}")
