"""What one request asks of a provider: one call, or several where it gives one choice, or takes one prompt, at a time.

Pure: a request's fields in, the calls' fields out, and their whole answers together again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from wire.errors import InvalidRequest
from workernode.prompts import prompts_of
from workernode.remote.best_of import best
from workernode.remote.dialects.request import NULL
from workernode.remote.usage import as_json, total
from workernode.remote.whole import Whole, joined

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from wire.request import Request
    from workernode.remote.dialects.dialect import Adapter
    from workernode.remote.dialects.request import Fields

CALLS_MAX = 128
"""For one request; as many choices as OpenAI gives at once."""
_SEED_MAX = 2**31 - 1
_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Call:
    """One call. Its answer has ``choices`` choices, and the first has the index ``first`` in the whole answer."""

    fields: Fields
    choices: int = 1
    first: int = 0


@dataclass(frozen=True)
class Plan:
    """The calls of a request. Of every ``candidates`` choices the best ``kept`` are shown."""

    calls: list[Call]
    candidates: int = 1
    kept: int = 1
    logprobs_asked: bool = True


def plan(request: Request, fields: Fields, adapters: Set[Adapter]) -> Plan:
    """The calls that answer ``request``. Raises :class:`wire.errors.InvalidRequest` if they are too many."""
    n = request.n or 1
    if request.endpoint == "embeddings":
        return Plan([Call(fields)])
    prompts = _raw_prompts(fields) if request.endpoint == "completions" else []
    divided = prompts if "one-prompt" in adapters and len(prompts) > 1 else []
    # In a conversation it is no field of OpenAI's, and nobody has counted on more than n answers.
    candidates = max(_int(fields, "best_of") or n, n) if request.endpoint == "completions" else n
    if "one-choice" not in adapters or candidates == 1:
        if not divided:
            return Plan([Call(fields, n * (len(prompts) or 1))])
        _check(len(divided))
        return Plan([Call({**fields, "prompt": prompt}, n, n * number) for number, prompt in enumerate(divided)])
    if request.endpoint == "completions" and not divided and len(prompts) > 1:
        divided = prompts  # several prompts' choices would come in another order than calls
    one = {name: value for name, value in fields.items() if name not in ("n", "best_of")}
    asked = one.get("logprobs", NULL) != NULL
    if candidates > n and not asked:
        one["logprobs"] = msgspec.Raw(b"0")
    alone = [{**one, "prompt": prompt} for prompt in divided] or [one]
    _check(len(alone) * candidates)
    calls = [
        Call(_with_seed(each, number), 1, number)
        for number, each in enumerate(each for each in alone for _ in range(candidates))
    ]
    return Plan(calls, candidates, n, logprobs_asked=asked)


def together(plan: Plan, wholes: Sequence[Whole]) -> Whole:
    """The answers of a plan's calls as one: choices side by side, usage added up."""
    tops = [_top.decode(whole.body) for whole in wholes]
    choices = [choice for top in tops for choice in _list.decode(top["choices"])]
    if plan.candidates > plan.kept:
        choices = best(choices, of=plan.candidates, n=plan.kept, logprobs_asked=plan.logprobs_asked)
    usage = total([whole.usage for whole in wholes])
    top = {**tops[0], "choices": msgspec.Raw(_encoder.encode(choices)), "usage": as_json(usage)}
    reasons = [whole.finish_reason for whole in wholes if whole.finish_reason is not None]
    return Whole(joined(top), usage, reasons[-1] if reasons else None)


def _check(calls: int) -> None:
    if calls > CALLS_MAX:
        raise InvalidRequest(
            f"The provider of this model gives one answer per call, and these would be more than {CALLS_MAX} calls.",
            param="n",
        )


def _with_seed(fields: Fields, number: int) -> Fields:
    """The same seed would give the same answer each time."""
    for name in ("seed", "random_seed"):
        seed = _int(fields, name)
        if number and seed is not None:
            return {**fields, name: msgspec.Raw(b"%d" % ((seed + number) % _SEED_MAX))}
    return fields


def _raw_prompts(fields: Fields) -> list[msgspec.Raw]:
    prompts = prompts_of(msgspec.json.decode(fields.get("prompt", NULL)))
    return [msgspec.Raw(_encoder.encode(each)) for each in prompts]


def _int(fields: Fields, name: str) -> int | None:
    try:
        return msgspec.json.decode(fields.get(name, NULL), type=int | None)
    except msgspec.DecodeError:
        return None
