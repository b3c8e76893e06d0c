"""Special tokens in the contents of messages: find them, and break them up or refuse them. Pure.

A message that holds ``<|im_end|>`` closes its own turn and may open another one: prompt injection. Protected
are all texts of messages and tools, except what an assistant has said itself.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import countOf, itemgetter
from typing import Any, Literal, TypeVar

from ..errors import TemplateError
from ..schema import Message
from .marks import BARS, FORMS

__all__ = [
    "BREAK",
    "MARK",
    "ContentGuard",
    "EscapedPrompt",
    "Mode",
    "escaped_prompt",
    "without_marks",
]

Mode = Literal["escape", "refuse"]

#: Inserted after the first character of a special token that can only be sent as text; invisible.
BREAK = "\u200b"
#: Inserted where the prompt is tokenized in this process, whose tokenizer removes it and encodes the token as
#: plain text. Half a surrogate pair: no input can hold it, because inputs must be encodable.
MARK = "\udfff"

#: Keys of an assistant's message that hold its own words.
_OWN = frozenset({"content", "reasoning_content", "reasoning", "thinking"})
_ROLE, _CONTENT = itemgetter("role"), itemgetter("content")
_T = TypeVar("_T")
#: Finds where a text has to be broken up, and by what; the second argument names the text in errors.
_Find = Callable[[str, str], Sequence[tuple[int, str]]]

_OPENERS, _CLOSERS = "<[", ">]"


class EscapedPrompt(str):
    """A prompt that holds `MARK`; see `escaped_prompt`."""

    __slots__ = ()


def escaped_prompt(text: str) -> str:
    """A prompt made of contents that a `ContentGuard` has escaped, for calls that take prompts."""
    return EscapedPrompt(text) if MARK in text else text


def without_marks(text: str) -> str:
    """The text with its escaped special tokens broken up, for what takes only text."""
    return text if text.isascii() else text.replace(MARK, BREAK)


class ContentGuard:
    """Finds special tokens in contents, and breaks them up or refuses them.

    Args:
        tokens: The special tokens; None (there is no template) stands for those of all known families.
        mode: 'refuse' raises TemplateError, 'escape' breaks the token up: with `MARK` if it is in
            `vocabulary`, with `BREAK` otherwise.
        where: The template or backend, for errors.
        vocabulary: Special tokens of the tokenizer that will encode the prompt in this process; () if the
            prompt is sent as text. Then all of the form ``<|…|>`` count as special.
        normalize: What that tokenizer does to a text before it looks for special tokens; None for nothing.
    """

    def __init__(
        self,
        tokens: Iterable[str] | None,
        mode: Mode,
        *,
        where: str,
        vocabulary: Collection[str] = (),
        normalize: Callable[[str], str] | None = None,
    ) -> None:
        self.mode, self._where, self._normalize = mode, where, normalize
        self._vocabulary = frozenset(vocabulary)
        self._mark = MARK if self._vocabulary else BREAK
        known = {token for token in (*(tokens or ()), *self._vocabulary) if token.strip()}
        ordered = sorted(known, key=lambda token: (-len(token), token))
        forms = [FORMS] if tokens is None else [] if self._vocabulary else [BARS]
        self._known = frozenset(known)
        self._forms = re.compile(forms[0]) if forms else None
        self._pattern = re.compile("|".join([*map(re.escape, ordered), *forms]) or r"(?!)")
        enclosed = [token for token in ordered if token[0] in _OPENERS and token[-1] in _CLOSERS]
        edges = {token[place] for token in enclosed for place in (0, -1)} | set("<>[]" if forms else "")
        self._brackets = re.compile(f"[{re.escape(''.join(edges))}]" if edges else r"(?!)")
        self._parts_of_tokens = (*sorted(edges), *known.difference(enclosed))

    def messages(self, messages: Sequence[Message], first: int = 0) -> Sequence[Message]:
        """`messages` without special tokens; the same object if there are none.

        Args:
            messages: The messages.
            first: Index of the first one in the dialog, for errors.

        Raises:
            TemplateError: With mode 'refuse', a message holds a special token.
        """
        return self._each(messages, self._tokens_in, first)

    def tools(self, tools: _T) -> _T:
        """As `messages`, for the descriptions of tools."""
        return tools if not tools else self._value(tools, "tools: a description", self._tokens_in)

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """As `messages`, for the variables of a template."""
        return options and dict(self._value(options, "chat_template_kwargs: a value", self._tokens_in))

    def without_brackets(self, messages: Sequence[Message]) -> Sequence[Message]:
        """`messages` with all brackets of special tokens broken up; the same object if there are none.

        A part of a special token forms one only with what the template puts beside it, or when the template
        removes something in between: compare the `special_tokens` of both renderings.
        """
        return self._each(messages, self._brackets_in, 0)

    def special_tokens(self, prompt: str) -> Counter[str]:
        """The special tokens in a prompt, and how often each occurs."""
        found = Counter({token: count for token in self._known if (count := prompt.count(token))})
        if self._forms is not None:
            found.update(token for token in self._forms.findall(prompt) if token not in self._known)
        return found

    def apart(self, messages: Sequence[Message], first: int = 0) -> Sequence[Message]:
        """`messages`, of which no two form a special token together, where a server may join them."""
        texts = [
            content.strip() if isinstance(content := item.get("content"), str) else "" for item in messages
        ]
        joined, alone = self.special_tokens("".join(texts)), Counter[str]()
        for text in texts:
            alone.update(self.special_tokens(text))
        if joined == alone:
            return messages
        if self.mode == "refuse":
            raise self.refusal_of_parts(joined, alone, first)
        return self.without_brackets(messages)

    def refusal_of_parts(self, tokens: Counter[str], without: Counter[str], first: int) -> TemplateError:
        """The error for contents of which parts form a special token in the prompt.

        Args:
            tokens: The special tokens in the prompt.
            without: Those in the prompt of the messages `without_brackets`.
            first: Index of the first message in the dialog.
        """
        token = next(iter(tokens - without or without - tokens))
        return self._refusal(f"messages[{first}] or one after it, with the text beside the content,", token)

    def text(self, text: str, place: str) -> str:
        """As `messages`, for one text; `place` names it in errors."""
        return _broken(text, self._tokens_in(text, place))

    def _refusal(self, place: str, token: str) -> TemplateError:
        return TemplateError(
            f"{self._where}: {place} holds {token!r}, a special token (injection='escape' sends it as plain "
            "text, injection='allow' as a special token)"
        )

    def harmless(self, messages: Sequence[Message]) -> bool:
        """Whether no message can hold a special token or a part of one; at little cost for ordinary texts."""
        if countOf(map(len, messages), 2) != len(messages):  # names, tool calls
            return False
        try:
            said = "\n".join(map(_CONTENT, messages)) + "\n" + "\n".join(set(map(_ROLE, messages)))
        except (KeyError, TypeError):  # contents in parts, or none
            return False
        return self._is_harmless(said)

    def _is_harmless(self, text: str) -> bool:
        if self._normalize is not None:
            text = self._normalize(text)
        return all(part not in text for part in self._parts_of_tokens)

    def _each(self, messages: Sequence[Message], find: _Find, first: int) -> Sequence[Message]:
        made = [self._message(message, index, find) for index, message in enumerate(messages, first)]
        same = all(new is old for new, old in zip(made, messages, strict=True))
        return messages if same else made

    def _message(self, message: Message, index: int, find: _Find) -> Message:
        role, content = message["role"], message.get("content")
        if (
            len(message) == 2
            and isinstance(content, str)
            and role.isalnum()
            and (role == "assistant" or self._is_harmless(content))
        ):
            return message
        place = f"messages[{index}] (role {role!r}): the "
        changed: dict[str, Any] = {}
        for key, value in message.items():
            if (role == "assistant" and key in _OWN) or value is None:
                continue
            if key == "role":
                if find != self._tokens_in:
                    continue
                new: Any = _broken(value, find(value, place + key))
            elif key == "content" and isinstance(value, (list, tuple)):
                new = self._parts(value, place + key, find)
            else:
                new = self._value(value, place + key, find)
            if new is not value:
                changed[key] = new
        return {**message, **changed} if changed else message

    def _parts(self, parts: Sequence[Any], place: str, find: _Find) -> Sequence[Any]:
        """The parts of a content, checked as the text that they form together."""
        found = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        texts = [text if isinstance(text, str) else "" for text in found]
        places = find("".join(texts), place)
        if not places:
            return parts
        made, start, first = [], 0, 0
        for part, text in zip(parts, texts, strict=True):
            end = first
            while end < len(places) and places[end][0] < start + len(text):
                end += 1
            inside = [(at - start, mark) for at, mark in places[first:end]]
            new, start, first = _broken(text, inside), start + len(text), end
            made.append(part if not inside else new if isinstance(part, str) else {**part, "text": new})
        return made

    def _value(self, value: Any, place: str, find: _Find) -> Any:
        """A value of JSON with all its texts changed, those of its keys too; the same object if none is."""
        if isinstance(value, str):
            return _broken(value, find(value, place))
        if isinstance(value, Mapping):
            made = {
                self._value(key, place, find): self._arguments(item, place, find)
                if key == "arguments"
                else self._value(item, place, find)
                for key, item in value.items()
            }
            pairs = zip(made.items(), value.items(), strict=False)
            return value if all(a is c and b is d for (a, b), (c, d) in pairs) else made
        if isinstance(value, (list, tuple)):
            items = [self._value(item, place, find) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        return value

    def _arguments(self, value: Any, place: str, find: _Find) -> Any:
        """The arguments of a call; a template may decode those that are JSON in a string."""
        if not isinstance(value, str) or MARK in value:
            return self._value(value, place, find)
        from ..untrusted import DECODE_ERRORS, read_json  # here: slow to import, and rarely needed

        try:
            decoded = read_json(value)
        except DECODE_ERRORS:
            return self._value(value, place, find)
        made = self._value(decoded, place, find)
        if made is decoded:
            return self._value(value, place, find)
        return made if self._mark == MARK else json.dumps(made, ensure_ascii=False)

    def _tokens_in(self, text: str, place: str) -> Sequence[tuple[int, str]]:
        """Where to break up the special tokens in `text`.

        Raises:
            TemplateError: With mode 'refuse', there is one.
        """
        places = []
        for found in self._pattern.finditer(text):
            if self.mode == "refuse":
                raise self._refusal(place, found[0])
            places.append((found.start() + 1, MARK if found[0] in self._vocabulary else BREAK))
        if self._normalize is not None and not places and MARK not in text:
            hidden = self._pattern.search(self._normalize(text))
            if hidden is not None and self.mode == "refuse":
                raise self._refusal(place, hidden[0])
            if hidden is not None:  # one mark anywhere: the tokenizer then takes no token of a content
                places.append((len(text) - len(text.lstrip()), MARK))
        return places

    def _brackets_in(self, text: str, place: str) -> Sequence[tuple[int, str]]:
        """Where to break up the brackets in `text`: behind an opening one, before a closing one."""
        return [
            (found.start() + (found[0] in _OPENERS), self._mark) for found in self._brackets.finditer(text)
        ]


def _broken(text: str, places: Sequence[tuple[int, str]]) -> str:
    """`text` with marks inserted at `places`, in ascending order; the same object if there are none."""
    if not places:
        return text
    parts: list[str] = []
    start = 0
    for at, mark in places:
        parts += text[start:at], mark
        start = at
    return "".join((*parts, text[start:]))
