"""The tokenizer in the HTTP process: prompts to tokens, tokens to what logprobs show, and the chat template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2 import TemplateError

from workernode.local.server.ending import CannotServe
from workernode.local.server.front import thoughts
from workernode.local.server.front.problem import Problem, unsupported
from workernode.local.server.front.template import FIELDS, ChatTemplate
from workernode.local.server.token_bytes import bytes_of_tokens

if TYPE_CHECKING:
    from collections.abc import Collection

    from workernode.local.server.flags import Flags
    from workernode.local.server.front.asked import Chat, Message
    from workernode.local.server.words import Logprob, Ready


@dataclass(frozen=True)
class Prompt:
    """What the model reads of a conversation, and how it will write its thoughts: in which form, if there is one, and
    whether its text begins inside of one."""

    tokens: list[int]
    thoughts: thoughts.ThoughtFormat | None = None
    inside: bool = False


class Tokens:
    """A tokenizer and a chat template. Raises :class:`CannotServe` for a template that cannot be read."""

    def __init__(self, ready: Ready, flags: Flags) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(ready.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bytes = bytes_of_tokens(self._tokenizer)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special)
        self._names = ready.special_tokens
        self._vocabulary = ready.vocabulary
        own = _template_of(flags.chat_template)
        self._template = _read(own or ready.chat_template)
        self._of_tools = self._template if own else _read(ready.tool_template) or self._template

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return self._template is not None

    @property
    def tool_template(self) -> str:
        """The text of the template for requests with tools; empty if there is none."""
        return self._of_tools.text if self._of_tools is not None else ""

    def of_text(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a prompt, with those that the tokenizer puts around it."""
        try:
            # Of a batch it lets go of Python's lock, and keeps no places in the text.
            found: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids
        except (UnicodeEncodeError, TypeError):
            raise Problem("The prompt holds characters that cannot be encoded.", param="prompt") from None
        if found and max(found) >= self._vocabulary:
            raise Problem("The prompt holds a token that this model's tokenizer knows, and the model does not.")
        return found

    def or_begin(self, tokens: list[int]) -> list[int]:
        """The tokens, or if there are none the one that begins a text."""
        if tokens:
            return tokens
        name = self._names.get("bos_token") or self._names.get("eos_token")
        first = None if name is None else self._tokenizer.token_to_id(name)
        if first is None:
            raise Problem("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        return [int(first)]

    def of_chat(self, asked: Chat) -> Prompt:
        """See :meth:`of_messages`."""
        return self.of_messages(
            asked.messages,
            None if asked.tool_choice == "none" else asked.tools,
            continues=asked.continue_final_message,
            begins=asked.add_generation_prompt,
            effort=asked.reasoning_effort,
            settings=asked.chat_template_kwargs or {},
        )

    def of_messages(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        *,
        continues: bool = False,
        begins: bool = True,
        effort: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Prompt:
        """A conversation by the template. Raises :class:`Problem`."""
        template = self._of_tools if tools else self._template
        if template is None:
            raise Problem(
                "This model has no chat template: use /v1/completions, or set CHAT_TEMPLATE.",
                code="no_chat_template",
                param="messages",
            )
        if tools and "tools" not in template.text:
            raise Problem("This model's chat template knows no tools.", code="unsupported_parameter", param="tools")
        if any(tool.get("type") not in (None, "function") for tool in tools or ()):
            raise unsupported("tools", "This model server knows tools of the type function only.")
        if effort is not None and "reasoning_effort" not in template.text:
            raise unsupported("reasoning_effort")
        if continues and messages[-1].role != "assistant":
            raise Problem("Only an assistant's last message can be continued.", param="continue_final_message")
        plain = [_plain(message, number) for number, message in enumerate(messages)]
        if "developer" not in template.text:
            # The newer name of the same: templates that do not know it would leave the message out.
            for fields in plain:
                fields["role"] = "system" if fields["role"] == "developer" else fields["role"]
        for name in FIELDS:
            if name in (settings or {}):
                raise Problem(
                    f"chat_template_kwargs cannot set {name}: the request has it.", param="chat_template_kwargs"
                )
        names = self._names | ({} if effort is None else {"reasoning_effort": effort}) | (settings or {})
        # To continue is to let the model begin its answer, and to have written its first words.
        last = plain.pop() if continues else None
        try:
            text = template.render(plain, tools=tools or None, begins=begins or continues, names=names)
        except TemplateError as error:
            raise _refused(str(error).split("\n")[0][:200]) from None
        except Exception:  # a template is a program of its own
            raise _refused("they have the wrong form") from None
        format_ = thoughts.format_of(template.text)
        inside = format_ is not None and text.rstrip().endswith(format_.begin)  # some templates begin the thought
        if last is not None:
            thought = last.get("reasoning_content") or ""
            shown, format_, inside = thoughts.continued(format_, last["content"], thought, inside=inside)
            text += shown
        return Prompt(self.of_text(text, special=False), format_, inside)

    def ids_of(self, *texts: str) -> tuple[int, ...]:
        """The tokens that are one of these texts each, where there are such."""
        found = (self._tokenizer.token_to_id(text) for text in texts)
        return tuple(token for token in found if token is not None)

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, special ones left out."""
        found: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return found

    def bytes_of(self, token: int) -> bytes:
        """One token's own, which may be a part of a character."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def shown(self, token: int) -> str:
        """One token as logprobs show it: its text, or, as OpenAI writes it, ``bytes:\\xe6\\x97``."""
        own = self.bytes_of(token)
        try:
            return own.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)

    def is_textless(self, tokens: list[int]) -> bool:
        """Whether all of them are special ones."""
        return self._special.issuperset(tokens)

    def length(self, token: int, *, begins: bool = False) -> int:
        """How many characters of the text begin with it; none with a special one. ``begins``: it is the text's first,
        whose blank some tokenizers leave out."""
        if token in self._special:
            return 0
        own = self.bytes_of(token)
        bare = begins and own.startswith(b" ") and not self.text([token]).startswith(" ")
        return sum(byte & 0xC0 != 0x80 for byte in own) - bare

    def told(self, logprobs: list[Logprob], shown: Collection[int] = ()) -> list[Logprob]:
        """Those of tokens that are a part of the text: the one that ends it is not. ``shown`` are special ones that
        are."""
        return [each for each in logprobs if each.token not in self._special or each.token in shown]


def _refused(reason: str) -> Problem:
    return Problem(f"The chat template refuses these messages: {reason}.", param="messages")


def _read(template: str | None) -> ChatTemplate | None:
    try:
        return ChatTemplate(template) if template else None
    except TemplateError as error:
        reason = (error.message or type(error).__name__).rstrip(".")
        raise CannotServe("usage", f"The chat template cannot be read: {reason}.") from None


def _template_of(setting: str) -> str:
    if not setting or "{" in setting:
        return setting
    try:
        return Path(setting).read_text()
    except (OSError, UnicodeDecodeError):
        raise CannotServe("usage", f"CHAT_TEMPLATE: {setting} is neither a template nor a file with one.") from None


def _plain(message: Message, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    for name in ("function_call", "audio"):
        if name in fields:
            where = f"messages[{number}].{name}"
            raise unsupported(where, f"This model server reads no {name} in a message.")
    fields.setdefault("content", "")
    content = fields["content"]
    if isinstance(content, list):
        fields["content"] = "".join(_part(part, number) for part in content)
    elif not isinstance(content, str):
        raise Problem("content is a text or a list of parts.", param=f"messages[{number}].content")
    if not fields.get("tool_calls"):
        fields.pop("tool_calls", None)  # templates look whether there is a list, and not whether it has calls
    for call in fields.get("tool_calls", ()):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:  # templates write arguments as JSON themselves
                function["arguments"] = json.loads(function["arguments"] or "{}")
            except (ValueError, RecursionError):
                raise Problem("The arguments are no JSON.", param=f"messages[{number}].tool_calls") from None
    return fields


def _part(part: Any, number: int) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Problem("This model reads text only.", code="unsupported_parameter", param=f"messages[{number}].content")
