"""The tokenizer in the HTTP process: prompts to tokens, tokens to what logprobs show, and the chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.local.server.ending import CannotServe
from workernode.local.server.front.problem import Problem

if TYPE_CHECKING:
    from workernode.local.server.flags import Flags
    from workernode.local.server.front.asked import Chat, Message


class Tokens:
    """A tokenizer and a chat template. Raises :class:`CannotServe` for a template that cannot be read."""

    def __init__(self, tokenizer: Any, flags: Flags) -> None:
        self._tokenizer = tokenizer
        self._template = _template_of(flags.chat_template) or tokenizer.chat_template

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._template)

    @property
    def template(self) -> str:
        """The template's text, of several the default one."""
        if isinstance(self._template, dict):
            return str(self._template.get("default") or next(iter(self._template.values())))
        return self._template or ""

    def of_text(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a prompt, with those that the tokenizer puts around it."""
        try:
            found: list[int] = self._tokenizer.encode(text, add_special_tokens=special)
        except (UnicodeEncodeError, TypeError):
            raise Problem("The prompt holds characters that cannot be encoded.", param="prompt") from None
        return found

    def or_begin(self, tokens: list[int]) -> list[int]:
        """The tokens, or if there are none the one that begins a text."""
        if tokens:
            return tokens
        first = self._tokenizer.bos_token_id
        first = self._tokenizer.eos_token_id if first is None else first
        if first is None:
            raise Problem("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        return [int(first)]

    def of_chat(self, asked: Chat) -> list[int]:
        """The tokens of a conversation."""
        return self.of_messages(
            asked.messages,
            None if asked.tool_choice == "none" else asked.tools,
            continues=asked.continue_final_message,
            begins=asked.add_generation_prompt and not asked.continue_final_message,
            settings=asked.chat_template_kwargs or {},
        )

    def of_messages(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        *,
        continues: bool = False,
        begins: bool = True,
        settings: dict[str, Any] | None = None,
    ) -> list[int]:
        """The tokens of a conversation by the template. Raises :class:`Problem`."""
        if not self._template:
            raise Problem(
                "This model has no chat template: use /v1/completions, or set CHAT_TEMPLATE.",
                code="no_chat_template",
                param="messages",
            )
        if tools and "tools" not in self.template:
            raise Problem("This model's chat template knows no tools.", code="unsupported_parameter", param="tools")
        if continues and messages[-1].role != "assistant":
            raise Problem("Only an assistant's last message can be continued.", param="continue_final_message")
        plain = [_plain(message, number) for number, message in enumerate(messages)]
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(
                plain,
                tools=tools,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=begins,
                continue_final_message=continues,
                **(settings or {}),
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            reason = str(error).split("\n")[0][:200] if isinstance(error, TemplateError) else "they have the wrong form"
            raise Problem(f"The chat template refuses these messages: {reason}.", param="messages") from None
        return self.of_text(text, special=False)

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, special ones left out."""
        found: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return found

    def shown(self, token: int) -> str:
        """One token as logprobs show it."""
        found: str = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return found


def load(folder: str, flags: Flags) -> Tokens:
    """The tokenizer of a model's directory."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=flags.trust_remote_code)
    return Tokens(tokenizer, flags)


def _template_of(setting: str) -> str:
    if not setting or "{" in setting:
        return setting
    try:
        return Path(setting).read_text()
    except (OSError, UnicodeDecodeError):
        raise CannotServe("usage", f"CHAT_TEMPLATE: {setting} is neither a template nor a file with one.") from None


def _plain(message: Message, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields.setdefault("content", "")
    content = fields["content"]
    if isinstance(content, list):
        fields["content"] = "".join(_part(part, number) for part in content)
    elif not isinstance(content, str):
        raise Problem("content is a text or a list of parts.", param=f"messages[{number}].content")
    for call in fields.get("tool_calls") or []:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:  # templates write arguments as JSON themselves
                function["arguments"] = json.loads(function["arguments"])
            except ValueError:
                raise Problem("The arguments are no JSON.", param=f"messages[{number}].tool_calls") from None
    return fields


def _part(part: Any, number: int) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Problem(
        "This model reads text only.", code="unsupported_parameter", param=f"messages[{number}].content"
    )
