"""Which adapters a provider needs: by the name that the operator gave, or by its host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Adapter = Literal[
    "max-tokens",
    "max-completion-tokens",
    "system-role",
    "no-stream-options",
    "random-seed",
    "one-choice",
    "one-prompt",
    "cumulative",
    "api-key-header",
    "deployments",
    "time-left",
]
"""What is done for a provider that differs. docs/remote-node.md has a sentence for each.

What can be told from an answer itself is not among them: it is done for everyone (:mod:`.choices`).
"""


@dataclass(frozen=True)
class Dialect:
    """A provider's way to speak OpenAI's API. ``hosts``: a name that begins with a dot stands for all below it."""

    name: str
    adapters: frozenset[Adapter] = frozenset()
    hosts: tuple[str, ...] = ()

    def speaks_at(self, host: str) -> bool:
        """Whether this is the dialect of that host."""
        return any(host == own or (own.startswith(".") and host.endswith(own)) for own in self.hosts)


def _dialect(name: str, *adapters: Adapter, hosts: tuple[str, ...] = ()) -> Dialect:
    return Dialect(name, frozenset(adapters), hosts)


DIALECTS = (
    _dialect("openai"),
    _dialect(
        "azure",
        "api-key-header",
        "deployments",
        hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
    ),
    _dialect("deepseek", "max-tokens", "system-role", "one-choice", hosts=("api.deepseek.com",)),
    _dialect("openrouter", "one-choice", hosts=("openrouter.ai",)),
    _dialect(
        "mistral",
        "max-tokens",
        "system-role",
        "no-stream-options",
        "random-seed",
        hosts=("api.mistral.ai", "codestral.mistral.ai"),
    ),
    _dialect("groq", "one-choice", hosts=("api.groq.com",)),
    _dialect("ollama", "max-tokens", "system-role", "one-choice", "one-prompt", hosts=("ollama.com",)),
    _dialect("llama.cpp", "max-tokens", "system-role"),
    _dialect("vllm", "system-role"),
    _dialect("gateway", "time-left"),
)
"""The first is what a provider is taken for whose host is none of theirs."""

_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}


def dialect_named(words: str) -> Dialect | None:
    """The dialect that ``DIALECT`` names: a dialect, adapters, or one and the others, by commas. None if it is empty.

    Raises :class:`ValueError` for an unknown word.
    """
    names = [word.strip() for word in words.split(",") if word.strip()]
    if not names:
        return None
    base = _BY_NAME.get(names[0])
    if base is not None:
        names = names[1:]
    unknown = [name for name in names if name not in get_args(Adapter)]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no dialect ({', '.join(_BY_NAME)}) and no adapter ({', '.join(get_args(Adapter))})"
        )
    adapters = frozenset[Adapter](name for name in get_args(Adapter) if name in names)
    return Dialect(base.name if base else "own", adapters | (base.adapters if base else frozenset()))


def dialect_at(host: str) -> Dialect:
    """The dialect of a provider's host."""
    return next((dialect for dialect in DIALECTS if dialect.speaks_at(host)), DIALECTS[0])
