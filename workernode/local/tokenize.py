"""How an engine is asked for the tokens of a text, at ``POST /tokenize``. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TokenizeForm:
    """Names of fields. All engines answer with a list, ``tokens``."""

    text: str
    special: str
    """Whether those are wanted that the tokenizer puts around a prompt."""
    proof: str = ""
    """A flag as old as ``special`` whose effect shows, where servers of the same kind know neither."""

    def question(self, text: str, model: str, *, special: bool) -> dict[str, Any]:
        """The body."""
        return {self.text: text, "model": model, self.special: special}

    def trial(self, model: str) -> dict[str, Any]:
        """A question whose answer shows whether this engine counts: :meth:`is_known`."""
        return self.question("a", model, special=True) | ({self.proof: True} if self.proof else {})

    def is_known(self, answer: Any) -> bool:
        """Whether the answer to the trial is that of a server which does as it is told."""
        tokens = tokens_of(answer)
        return tokens is not None and isinstance(next(iter(tokens), None), dict if self.proof else int)


def tokens_of(answer: Any) -> list[Any] | None:
    """The tokens; None of an answer in another form."""
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    return tokens if isinstance(tokens, list) else None


PROMPT = TokenizeForm("prompt", "add_special_tokens")
"""Our own server's and vLLM's."""
CONTENT = TokenizeForm("content", "add_special", proof="with_pieces")
"""llama.cpp's. The servers in older llamafiles know the text alone, and leave out the token that begins it."""
