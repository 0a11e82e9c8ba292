"""What a log line tells, before it looks like anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} | {
    0x0A: "\\n",
    0x0D: "\\r",
    # Line and paragraph separators, and what turns the direction of the text that follows.
    **{
        code: f"\\u{code:04x}"
        for code in (0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    },
}
_VALUE_ESCAPES = ESCAPES | {0x22: '\\"', 0x5C: "\\\\"}
"""So that a value can neither end its own quotes nor look like an escape."""


class Event(dict[str, object]):
    """What a line tells: ``message`` is its sentence, the rest its fields. As a string it is the text of the line."""

    def __init__(self, sentence: str, fields: dict[str, object], error: BaseException | None = None) -> None:
        super().__init__(message=sentence)
        self.update((name, value) for name, value in fields.items() if value is not None)
        if error is not None:
            self["error"] = type(error).__name__

    def __str__(self) -> str:
        fields = (field(name, value) for name, value in self.items() if name != "message")
        return " ".join([str(self["message"]).translate(ESCAPES), *fields])


def field(name: str, value: object, styled: Callable[[str], str] = str) -> str:
    """``name="value"``; ``styled`` colours the name."""
    return f'{styled(name.translate(ESCAPES))}="{str(value).translate(_VALUE_ESCAPES)}"'
