"""lagent's two template parsers, and the conversion of its list of dicts to a `Family`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import countOf
from typing import Any

from ..errors import LLMError, TemplateError, nearest
from ..messages import check_messages
from ..schema import Message
from ..validators import shown
from .answers.formats import AnswerMarks
from .base import ChatTemplate, text_of
from .internlm2 import INTERNLM2_META
from .placeholders import PlaceholderText, parse_placeholders
from .reader import Reader
from .render import MetaTemplate
from .schema import Begin, Case, Family, Prompt, Role, When
from .tools import ToolCallFormat, ToolsMessage

__all__ = ["APITemplateParser", "LMTemplateParser", "is_api_form", "lagent_family"]

WHERE = "meta_template"
KEYS = ("role", "begin", "end", "api_role", "fallback_role", "generate")
#: Keys of messages that stay messages of their own.
_OF_TOOLS = frozenset({"tool_calls", "tool_call_id"})
#: OpenAI's roles of the results of tools, which every server with its chat route knows.
_OPENAI_RESULTS = frozenset({"tool", "function"})
#: Input of the parsers: a prompt or the messages of a dialog (lagent also allows strings among them).
Dialog = str | Sequence[Message]


def is_api_form(meta_template: Sequence[Any]) -> bool:
    """Whether a list has dicts with ``api_role`` and none with a text (``begin``, ``end``)."""
    entries = [item for item in meta_template if isinstance(item, Mapping)]
    return any(item.get("api_role") for item in entries) and not any(
        item.get("begin") or item.get("end") for item in entries
    )


def lagent_family(meta_template: Sequence[Mapping[str, Any]]) -> Family:
    """Convert lagent's list of dicts to a family.

    As in lagent, the assistant's turn is opened after a last message of another role, whatever the value of
    `add_generation_prompt`; a last message of a role with ``generate=True`` stays open. The tokenizer adds
    the BOS.

    Raises:
        TemplateError: A key is missing or unknown, a value has the wrong type, a role occurs twice, or the
            role 'assistant' is missing.
    """
    if is_api_form(meta_template):
        raise TemplateError(
            f"{WHERE}: it maps roles to api_roles and has no texts (begin, end), so it makes no prompt; "
            "leave it to a backend with a chat route, or give the name of a family such as 'chatml'"
        )
    roles = _roles(meta_template)
    if "assistant" not in roles:
        raise TemplateError(f"{WHERE}: there is no entry for role 'assistant' (roles: {', '.join(roles)})")
    assistant = roles["assistant"].begin
    opened = assistant.without_name if isinstance(assistant, Begin) else assistant
    closed = frozenset(name for name, role in roles.items() if role is roles["assistant"] or role.generate)
    ends_open = Case(When((("last_turn", closed),)), {"generation": "", "end": ""})
    is_internlm2 = [dict(item) for item in meta_template] == INTERNLM2_META
    return Family(
        name="meta_template",
        where=WHERE,
        bos_by="server",
        prompt=Prompt(generation=opened, end=opened, cases=(ends_open,)),
        roles=roles,
        tools=INTERNLM2_TOOLS if is_internlm2 else None,
        tool_call=INTERNLM2_CALL if is_internlm2 else None,
        answers=AnswerMarks(INTERNLM2_CALL.marks) if is_internlm2 else AnswerMarks(),
    )


#: Format of InternLM2's tools and tool calls, equal to that in meta_templates/internlm2-lagent.yaml.
INTERNLM2_TOOLS = ToolsMessage("system", "plugin", "environment")
INTERNLM2_CALL = ToolCallFormat(
    "<|action_start|><|plugin|>\n", "<|action_end|>", "", ("parameters", "arguments")
)


def _roles(meta_template: Sequence[Mapping[str, Any]]) -> dict[str, Role]:
    if isinstance(meta_template, (str, bytes, Mapping)) or not isinstance(meta_template, Sequence):
        raise TemplateError(f"{WHERE}: expected a list of dicts, got {type(meta_template).__name__}")
    if not meta_template:
        raise TemplateError(f"{WHERE}: the list is empty")
    roles: dict[str, Role] = {}
    for index, item in enumerate(meta_template):
        reader = Reader(item, f"{WHERE}[{index}]", KEYS)
        name = reader.text("role")
        if not name:
            raise TemplateError(f"{WHERE}[{index}]: 'role' is missing")
        if name in roles:
            raise TemplateError(f"{WHERE}[{index}]: role {name!r} occurs twice")
        reader.where = f"{WHERE}[{index}] (role {name!r})"
        roles[name] = Role(
            begin=_begin(reader),
            end=reader.text("end"),
            api_role=reader.text("api_role"),
            fallback_role=reader.text("fallback_role"),
            generate=reader.flag("generate"),
        )
    for name, role in roles.items():
        if role.fallback_role and (role.fallback_role not in roles or role.fallback_role == name):
            raise TemplateError(
                f"{WHERE} (role {name!r}): fallback_role {role.fallback_role!r} is not another role"
                f"{nearest(role.fallback_role, roles)} (roles: {', '.join(roles)})"
            )
    return {name: roles.get(role.fallback_role, role) for name, role in roles.items()}


def _begin(reader: Reader) -> str | Begin:
    if not isinstance(reader.raw("begin"), Mapping):
        return reader.text("begin")
    begin = Reader(reader.raw("begin"), reader.location("begin"), ("with_name", "without_name", "name"))
    with_name: str | PlaceholderText = parse_placeholders(
        begin.location("with_name"), begin.text("with_name"), fixed={}
    )
    return Begin(with_name, begin.text("without_name"), dict(begin.mapping("name")))


class LMTemplateParser:
    """lagent's parser for models that take text: render a dialog to a prompt.

    Args:
        meta_template: A list of dicts (role, begin, end, fallback_role, generate), or a loaded template; None
            joins the contents by newlines.

    Raises:
        TemplateError: The meta template is not valid.
    """

    def __init__(self, meta_template: Sequence[Mapping[str, Any]] | ChatTemplate | None = None) -> None:
        self.meta_template = meta_template
        self._template: ChatTemplate | None = None
        if isinstance(meta_template, ChatTemplate):
            self._template = meta_template
        elif meta_template:
            self._template = MetaTemplate(lagent_family(meta_template))

    def __call__(self, messages: Dialog, add_generation_prompt: bool = True) -> str:
        """Render `messages`; a string is a prompt already and is returned unchanged.

        Args:
            messages: The dialog, or a prompt.
            add_generation_prompt: See `ChatTemplate.render`; lagent's format opens the assistant's turn after
                a message of another role in any case.

        Raises:
            TemplateError: A role is unknown, or a content is not text.
            InvalidArgument: A message has no role or content.
        """
        if isinstance(messages, str):
            return messages
        if (text := self._fast(messages, add_generation_prompt)) is not None:
            return text
        dialog = check_messages(messages)
        if self._template is None:
            return "\n".join(text_of(message, index, WHERE) for index, message in enumerate(dialog))
        return self._template.render(dialog, add_generation_prompt=add_generation_prompt)

    def _fast(self, messages: Dialog, add_generation_prompt: bool) -> str | None:
        """The prompt of messages that have a role, a text and maybe a name, checked by rendering them.

        Returns:
            None where the messages must be checked one by one: they may be wrong, or need conversion.
        """
        if self._template is None or type(messages) is not list or not messages:
            return None
        try:
            if countOf(map(len, messages), 2) != len(messages) and not all(map(_is_plain, messages)):
                return None
            text = self._template.render(messages, add_generation_prompt=add_generation_prompt)
            if not text.isascii():
                text.encode()  # fails for a lone surrogate
        except (LLMError, AttributeError, LookupError, TypeError, ValueError):
            return None
        return text


def _is_plain(message: Message) -> bool:
    return len(message) == 2 or (len(message) == 3 and type(message.get("name")) is str)


class APITemplateParser:
    """lagent's parser for servers that apply their own template: map the roles of a dialog.

    Args:
        meta_template: A list of dicts (role, api_role, begin, end, fallback_role); None leaves messages
            unchanged.

    Raises:
        TemplateError: The meta template is not valid.
    """

    def __init__(self, meta_template: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.meta_template = meta_template
        self._roles = _roles(meta_template) if meta_template else None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles it maps; empty without a meta template."""
        return tuple(self._roles or ())

    def __call__(self, messages: Dialog) -> list[dict[str, Any]]:
        """Map roles to the server's and join consecutive messages of the same role by a newline.

        Tool calls and their results stay messages of their own, and so do messages with images or other
        parts that are no text. A string becomes a message of the user. A role without `api_role` keeps its
        name, and so do OpenAI's roles of results (``tool``, ``function``) without an entry.

        Raises:
            TemplateError: A role is unknown, or a content is not text.
            InvalidArgument: A message has no role or content.
        """
        dialog = check_messages(
            [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        )
        result: list[dict[str, Any]] = []
        for index, message in enumerate(dialog):
            item = self._item(message, index)
            before = result[-1] if result else {}
            if (
                before.get("role") == item["role"]
                and _OF_TOOLS.isdisjoint({*before, *item})
                and isinstance(before["content"], str)
                and isinstance(item["content"], str)
            ):
                result[-1]["content"] += "\n" + item["content"]
            else:
                result.append(item)
        return result

    def _item(self, message: Message, index: int) -> dict[str, Any]:
        name, content = message["role"], _content(message, index)
        if self._roles is None or (name not in self._roles and name in _OPENAI_RESULTS):
            return {**message, "content": content}
        if name not in self._roles:
            raise TemplateError(
                f"{WHERE}: messages[{index}]: the template has no role {shown(name)}"
                f"{nearest(name, self._roles)} (allowed: {', '.join(self._roles)})"
            )
        role = self._roles[name]
        begin, end = role.begin if isinstance(role.begin, str) else "", str(role.end)
        if isinstance(content, str):
            content = f"{begin}{content}{end}"
        else:
            content = [*_text_part(begin), *content, *_text_part(end)]
        return {**message, "role": role.api_role or name, "content": content}


def _content(message: Message, index: int) -> str | list[Any]:
    """The text of a message; its parts if one is no text, for the server to take or refuse."""
    content = message.get("content")
    if isinstance(content, list) and any(
        isinstance(part, Mapping) and part.get("type") not in (None, "text") for part in content
    ):
        return content
    return text_of(message, index, WHERE)


def _text_part(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}] if text else []
