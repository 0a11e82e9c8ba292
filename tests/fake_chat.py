"""What the fake provider says in a conversation: pure functions of a request, and the JSON around them.

The answer is the last prompt's first word and ``tokens=N`` words after it: ``r17 t0 t1 … t(N-1)``; of several choices
each ends with its number. With ``tools``, and ``calls=N`` in the prompt or a ``tool_choice`` that wants it, the answer
is N calls instead, until a tool has spoken; with ``no-arguments`` they have none, not even ``{}``. With a
``response_format`` it is JSON. What stands in JSON or in a call's arguments is an example of its schema.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.fake_texts import prompts_of, words_of

if TYPE_CHECKING:
    from tests.fake_chaos import Chaos

DEFAULT_TOKENS = 8
ID = "chatcmpl-upstream"
CREATED_S = 1_700_000_000
ARGUMENTS_PIECE_CHARS = 5
NUMBER = 7
LOGPROB = -0.25


def prompt_of(body: bytes | dict[str, Any]) -> str:
    """The last user's words, whatever the endpoint."""
    parsed = json.loads(body) if isinstance(body, bytes) else body
    if "messages" not in parsed:
        return words_of(prompts_of(parsed)[0])
    users = [message for message in parsed["messages"] if message.get("role") == "user"]
    return _text(users[-1])


def oracle_text(body: bytes | dict[str, Any]) -> str:
    """The answer to a request, or the first of several."""
    return oracle_choices(json.loads(body) if isinstance(body, bytes) else body)[0]


def oracle_choices(body: dict[str, Any]) -> list[str]:
    """The text of each choice, by its index."""
    words = prompt_of(body).split()
    wanted = body.get("response_format") or {}
    n = int(body.get("n") or 1)
    if wanted.get("type", "text") != "text":
        schema = (wanted.get("json_schema") or {}).get("schema", {"properties": {"answer": {"type": "string"}}})
        return [json.dumps(example(schema, words), separators=(", ", ":"))] * n
    name = words[0] if words and "=" not in words[0] else "r"
    text = " ".join([name, *(f"t{i}" for i in range(_number(words, "tokens", DEFAULT_TOKENS)))])
    return [text + (f" c{choice}" if n > 1 else "") for choice in range(n)]


def oracle_calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of tools that are the answer; none where it is a text."""
    words = prompt_of(body).split()
    choice, tools = body.get("tool_choice", "auto"), body.get("tools") or []
    count = _number(words, "calls", 0 if choice == "auto" else 1)
    if not tools or not count or choice == "none" or body["messages"][-1].get("role") == "tool":
        return []
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, dict):
        functions = [each for each in functions if each["name"] == choice["function"]["name"]]
    return [_call(number, functions[number % len(functions)], words) for number in range(count)]


def oracle_usage(body: bytes | dict[str, Any]) -> dict[str, Any]:
    """What an answer costs: a token per word. A third of the prompt counts as cached."""
    parsed = json.loads(body) if isinstance(body, bytes) else body
    prompt = sum(len(_text(message).split()) for message in parsed["messages"])
    completion = sum(len(text.split()) for text in oracle_choices(parsed))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 3},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def example(schema: dict[str, Any], words: list[str], root: dict[str, Any] | None = None) -> Any:
    """A value that a schema allows: texts are the prompt's first word, numbers are :data:`NUMBER`."""
    root = schema if root is None else root
    if reference := schema.get("$ref"):
        return example(root["$defs"][reference.rpartition("/")[2]], words, root)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return example(schema[word][0], words, root)
    match schema.get("type", "object"):
        case "string":
            return schema.get("enum", [words[0] if words else "r"])[0]
        case "integer" | "number":
            return NUMBER
        case "boolean":
            return True
        case "array":
            return [example(schema["items"], words, root)]
        case _:
            return {name: example(each, words, root) for name, each in schema.get("properties", {}).items()}


def chunks(body: dict[str, Any], chaos: Chaos) -> list[dict[str, Any]]:
    """The chunks of a streamed answer, its choices interleaved."""
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    null_usage = {"usage": None} if asked else {}
    head = _head(body, "chat.completion.chunk")

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        piece = delta.get("content")
        choice = {"index": index, "delta": delta, "logprobs": _logprobs(body, [piece] if piece else [])}
        return {**head, "choices": [choice | {"finish_reason": finish}], **null_usage}

    indexes = range(int(body.get("n") or 1))
    calls = oracle_calls(body)
    opening = {"role": "assistant", "content": None if calls else "", "refusal": None}
    made = [chunk(i, opening) for i in indexes]
    if calls:
        made += [chunk(i, {"tool_calls": [part]}) for part in _call_parts(calls) for i in indexes]
    else:
        texts = [_pieces(_said(text, chaos), chaos) for text in oracle_choices(body)]
        made += [
            chunk(i, {"content": own[place]})
            for place in range(max(map(len, texts)))
            for i, own in enumerate(texts)
            if place < len(own)
        ]
    if not chaos.no_finish:
        made += [chunk(i, {}, "tool_calls" if calls else "stop") for i in indexes]
        if chaos.usage_on_finish:
            made[-1]["usage"] = oracle_usage(body)
    if asked and not chaos.no_usage and not chaos.usage_on_finish:
        made.append({**head, "choices": [], "usage": oracle_usage(body)})
    return made


def completion(body: dict[str, Any], chaos: Chaos) -> dict[str, Any]:
    """The whole answer."""
    calls = oracle_calls(body)
    finish = None if chaos.no_finish else "tool_calls" if calls else "stop"
    choices = []
    for index, text in enumerate(oracle_choices(body)):
        said = _said(text, chaos)
        message: dict[str, Any] = {"role": "assistant", "content": None if calls else said, "refusal": None}
        message |= {"tool_calls": calls} if calls else {"annotations": []}
        logprobs = None if calls else _logprobs(body, _pieces(said, chaos))
        choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
    return {
        **_head(body, "chat.completion"),
        "choices": choices,
        "usage": oracle_usage(body),
        "service_tier": "default",
    }


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    fingerprint = {"system_fingerprint": "fp_fake"}
    return {"id": ID, "object": kind, "created": CREATED_S, "model": body.get("model"), **fingerprint}


def _call(number: int, function: dict[str, Any], words: list[str]) -> dict[str, Any]:
    arguments = "" if "no-arguments" in words else json.dumps(example(function.get("parameters") or {}, words))
    named = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": named}


def _call_parts(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a stream brings them: the first part of a call names it, the others have its arguments."""
    parts = []
    for index, call in enumerate(calls):
        function, arguments = call["function"], call["function"]["arguments"]
        parts.append({"index": index, **call, "function": {**function, "arguments": ""}})
        parts += [
            {"index": index, "function": {"arguments": arguments[at : at + ARGUMENTS_PIECE_CHARS]}}
            for at in range(0, len(arguments), ARGUMENTS_PIECE_CHARS)
        ]
    return parts


def _logprobs(body: dict[str, Any], pieces: list[str]) -> dict[str, Any] | None:
    if not body.get("logprobs") or not pieces:
        return None

    def one(piece: str) -> dict[str, Any]:
        return {"token": piece, "logprob": LOGPROB, "bytes": list(piece.encode())}

    top = int(body.get("top_logprobs") or 0)
    return {"content": [one(piece) | {"top_logprobs": [one(piece)] * top} for piece in pieces], "refusal": None}


def _said(text: str, chaos: Chaos) -> str:
    return text + " " + "x" * (chaos.huge * 2**20) if chaos.huge else text


def _pieces(text: str, chaos: Chaos) -> list[str]:
    if chaos.huge:
        return [text[i : i + 65536] for i in range(0, len(text), 65536)]
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


def _number(words: list[str], name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in words if word.startswith(f"{name}=")), default)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)
