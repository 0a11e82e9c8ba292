"""Chat templates: Jinja in a sandbox, with what templates of models expect to find there."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping


FIELDS = ("messages", "tools", "add_generation_prompt")
"""What a template gets of each request."""


class ChatTemplate:
    """Raises jinja2's TemplateError for one that cannot be read."""

    def __init__(self, text: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self.text = text
        self._template = environment.from_string(text)

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        begins: bool,
        names: Mapping[str, Any],
    ) -> str:
        """The conversation as the model reads it; ``names`` are what a template may ask for beside :data:`FIELDS`.

        Raises TemplateError, and whatever the template stumbles over.
        """
        fields = dict(zip(FIELDS, (messages, tools, begins), strict=True))
        # As transformers hands them over: there are no documents, which is something else than not to know of any.
        text: str = self._template.render({"documents": None, **names, **fields})
        return text


class _Generation(Extension):  # type: ignore[misc, unused-ignore]
    """``{% generation %}`` marks the model's own words, for training: here it is nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 wants a set

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Models are trained with what these options make, and without the escapes that Jinja's own filter adds.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
