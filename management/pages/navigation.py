"""The pages that the menu leads to."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """``letter`` is the one that leads there after ``g``."""

    path: str
    title: str
    letter: str
    icon: str


NAVIGATION = (
    Entry("/", "Overview", "o", "overview"),
    Entry("/models", "Models", "m", "models"),
    Entry("/nodes", "Nodes", "n", "nodes"),
    Entry("/requests", "Requests", "r", "requests"),
    Entry("/errors", "Errors", "e", "errors"),
    Entry("/usage", "Cost and usage", "u", "usage"),
    Entry("/keys", "Keys and budgets", "k", "keys"),
    Entry("/dead-letters", "Dead letters", "d", "dead"),
    Entry("/actions", "Actions", "a", "actions"),
    Entry("/health", "Health", "h", "health"),
)
