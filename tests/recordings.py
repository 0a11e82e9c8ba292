"""How providers spell the same answer: streams and whole answers in the forms that they really send, shortened.

Each says ``Hello world``, some after having thought ``Hm.``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from wire.usage import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
FIGURES = Usage(prompt_tokens=9, completion_tokens=3)


@dataclass(frozen=True)
class Recording:
    """One answer. ``figures`` is None where the provider tells none."""

    name: str
    body: bytes
    media_type: str = "text/event-stream"
    dialect: str = ""
    reasoning: str = ""
    figures: Usage | None = FIGURES
    finish_reason: str = "stop"


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **others: Any) -> dict[str, Any]:
    """A chunk as OpenAI writes it, and what ``others`` put in or over it."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
    return {**head, "choices": choices, **others}


def events(*payloads: Any, done: bool = True, before: str = "data: ", newline: str = "\n") -> bytes:
    """Server-sent events; a text is passed as it is."""
    lines = [each if isinstance(each, str) else before + json.dumps(each) for each in payloads]
    return "".join(line + newline * 2 for line in [*lines, *([before + "[DONE]"] if done else [])]).encode()


def odd_choice(**choice: Any) -> dict[str, Any]:
    """A chunk with a choice of another form."""
    return chunk(None, choices=[choice])


FIRST = chunk({"role": "assistant", "content": ""})
HELLO, WORLD = chunk({"content": "Hello"}), chunk({"content": " world"})
STOP = chunk({}, "stop")
SPENT = chunk(None, usage=USAGE)
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
PLAIN = (FIRST, HELLO, WORLD, STOP, SPENT)

STREAMS = [
    Recording("openai", events(*PLAIN)),
    Recording(
        "openai, with obfuscation",
        events(*(each | {"usage": each.get("usage"), "obfuscation": "x" * n} for n, each in enumerate(PLAIN))),
    ),
    Recording(
        "azure",
        events(
            chunk(None, id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0}]),
            *(
                each | {"choices": [{**choice, "content_filter_results": {}} for choice in each["choices"]]}
                for each in (FIRST, HELLO, WORLD, STOP)
            ),
            SPENT,
        ),
    ),
    Recording(
        "deepseek",
        events(
            ": keep-alive",
            chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
            chunk({"content": None, "reasoning_content": "Hm."}),
            ": keep-alive",
            chunk({"content": "Hello", "reasoning_content": None}),
            chunk({"content": " world", "reasoning_content": None}),
            chunk({"content": "", "reasoning_content": None}, "stop", usage=USAGE | {"prompt_cache_hit_tokens": 4}),
        ),
        reasoning="Hm.",
        figures=Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4),
    ),
    Recording(
        "openrouter",
        events(
            ": OPENROUTER PROCESSING",
            chunk({"role": "assistant", "content": "", "reasoning": "Hm.", "reasoning_details": [{"text": "Hm."}]}),
            chunk({"role": "assistant", "content": "Hello"}, provider="P"),
            chunk({"role": "assistant", "content": " world"}, provider="P"),
            odd_choice(index=0, delta={"content": ""}, finish_reason="stop", native_finish_reason="end_turn"),
            chunk({"role": "assistant", "content": ""}, usage=USAGE | {"cost": 0.0001}),
        ),
        reasoning="Hm.",
    ),
    Recording(
        "mistral",
        events(
            chunk({"role": "assistant", "content": [THOUGHT]}),
            chunk({"content": [{"type": "text", "text": "Hello"}]}),
            chunk({"content": " world"}, "stop", usage=USAGE),
        ),
        reasoning="Hm.",
    ),
    Recording(
        "groq",
        events(FIRST | {"x_groq": {"id": "req_1"}}, HELLO, WORLD, STOP | {"x_groq": {"id": "req_1", "usage": USAGE}}),
    ),
    Recording(
        "ollama",
        events(
            chunk({"role": "assistant", "content": "", "reasoning": "Hm."}, system_fingerprint="fp_ollama"),
            chunk({"role": "assistant", "content": "Hello"}, system_fingerprint="fp_ollama"),
            chunk({"role": "assistant", "content": " world"}, system_fingerprint="fp_ollama"),
            chunk({"role": "assistant", "content": ""}, "stop", system_fingerprint="fp_ollama"),
            SPENT,
        ),
        reasoning="Hm.",
    ),
    Recording(
        "llama.cpp",
        events(chunk({"role": "assistant", "content": None}), HELLO, WORLD, STOP, SPENT | {"timings": {"prompt_n": 9}}),
    ),
    Recording(
        "vllm",
        events(
            chunk({"role": "assistant", "content": "", "reasoning_content": None}, prompt_token_ids=None),
            HELLO,
            WORLD,
            odd_choice(index=0, delta={"content": ""}, finish_reason="stop", stop_reason=None, token_ids=None),
            SPENT,
        ),
    ),
    Recording(
        "moonshot",
        events(FIRST, HELLO, WORLD, odd_choice(index=0, delta={}, finish_reason="stop", usage=USAGE)),
    ),
    Recording(
        "perplexity",
        events(
            *(
                chunk({"role": "assistant", "content": new}, finish, usage=USAGE | {"completion_tokens": n})
                for n, new, finish in ((1, "Hello", None), (2, " world", None), (3, "", "stop"))
            )
        ),
    ),
    Recording(
        "a chunk that holds all text before",
        events(*(chunk({"content": text}) for text in ("Hello", "Hello", "Hello world")), STOP, SPENT),
        dialect="cumulative",
    ),
    Recording("no space after data:", events(*PLAIN, before="data:")),
    Recording("CRLF", events(*PLAIN, newline="\r\n")),
    Recording("comments, ids, event names", events(": ping", "event: message\nid: 7\nretry: 10", *PLAIN)),
    Recording("no [DONE]", events(*PLAIN, done=False)),
    Recording("neither [DONE] nor the last empty line", events(*PLAIN, done=False).rstrip(b"\n")),
    Recording("no finish reason", events(FIRST, HELLO, WORLD, SPENT)),
    Recording("an empty finish reason", events(FIRST, chunk({"content": "Hello world"}, ""), STOP, SPENT)),
    Recording("another finish reason", events(FIRST, HELLO, WORLD, chunk({}, "eos_token"), SPENT)),
    Recording(
        "a finish reason for a limit",
        events(FIRST, HELLO, WORLD, chunk({}, "MAX_TOKENS"), SPENT),
        finish_reason="length",
    ),
    Recording("no usage", events(FIRST, HELLO, WORLD, STOP), figures=None),
    Recording(
        "no role and no index",
        events(odd_choice(delta={"content": "Hello"}), odd_choice(delta={"content": " world"}), STOP, SPENT),
    ),
    Recording(
        "messages instead of deltas",
        events(
            odd_choice(index=0, message={"content": "Hello"}), odd_choice(message={"content": " world"}), STOP, SPENT
        ),
    ),
    Recording(
        "a whole answer after its deltas",
        events(
            FIRST | {"usage": {"total_tokens": 0}},
            *(each | {"usage": {"total_tokens": 0}} for each in (HELLO, WORLD)),
            odd_choice(index=0, message={"role": "assistant", "content": "Hello world"}, finish_reason="stop")
            | {"object": "chat.completion", "usage": USAGE},
        ),
    ),
    Recording(
        "an empty role",
        events(
            *(chunk({"role": "", "content": text}) for text in ("Hello", " world")), chunk({"role": ""}, "stop"), SPENT
        ),
    ),
    Recording("another content type", events(*PLAIN), "text/plain"),
]


def whole(message: dict[str, Any], finish: str = "stop", **others: Any) -> bytes:
    """A whole answer."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": "c-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE, **others}).encode()


SAID = {"role": "assistant", "content": "Hello world"}
PARTS = [THOUGHT, {"type": "text", "text": "Hello world"}]
JSON = "application/json"
WHOLES = [
    Recording("openai", whole(SAID | {"refusal": None, "annotations": []}), JSON),
    Recording("empty lines before it, as a keep-alive", b"\n\n\n" + whole(SAID), JSON),
    Recording("deepseek", whole(SAID | {"reasoning_content": "Hm."}), JSON, reasoning="Hm."),
    Recording("openrouter, ollama", whole(SAID | {"reasoning": "Hm."}), JSON, reasoning="Hm."),
    Recording("mistral", whole(SAID | {"content": PARTS}), JSON, reasoning="Hm."),
    Recording("no role", whole({"content": "Hello world"}), JSON),
    Recording("another finish reason", whole(SAID, "model_length"), JSON, finish_reason="length"),
    Recording("a full context", whole(SAID, "model_context_window_exceeded"), JSON, finish_reason="length"),
    Recording("google", whole(SAID, "content_filter: PROHIBITED_CONTENT"), JSON, finish_reason="content_filter"),
    Recording("a refusal as a finish reason", whole(SAID, "refusal"), JSON, finish_reason="content_filter"),
    Recording("no usage", whole(SAID, usage=None), JSON, figures=None),
    Recording("another content type", whole(SAID), "text/plain"),
]
