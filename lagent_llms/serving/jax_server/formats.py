"""Convert a chat template into the formats of a `JAXServerConfig`. Pure."""

from __future__ import annotations

from ...errors import LLMError
from ...templates import ChatTemplate

__all__ = ["formats_of"]

# Private-use characters that stand for the messages in rendered prompts.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "\ue000\ue001\ue002\ue003"


def formats_of(template: ChatTemplate) -> dict[str, str]:
    """The format attributes that produce the same prompts as `template`; {} if none can.

    The result also has ``chat_with_system``, the format of the text before a chat with a system message, and
    ``instruct_without_system``, the format of an instruction without one.
    """
    user, answer = {"role": "user", "content": _FIRST}, {"role": "assistant", "content": _ANSWER}
    second = {"role": "user", "content": _SECOND}
    try:
        head, tail = template.render([user]).split(_FIRST)
        instruct = _with_system(template, user)
        two_answers = template.render([user, answer, second, answer, user])
        before, _, rest = template.render([user, answer, second]).partition(_FIRST)
        middle, _, rest = rest.partition(_ANSWER)
        between, after = rest.split(_SECOND)
        with_system, _ = instruct.split(_FIRST)
    except (LLMError, ValueError):  # the template refuses a second turn, or repeats a message
        return {}
    # The opening of each turn: the longest common suffix of the texts before a user message.
    suffixes = (head[start:] for start in range(len(head) + 1))
    opening = next(text for text in suffixes if between.endswith(text) and with_system.endswith(text))
    prefix, closing = head.removesuffix(opening), between.removesuffix(opening)
    turns = f"{opening}{_FIRST}{middle}{_ANSWER}{closing}", f"{opening}{_SECOND}{middle}{_ANSWER}{closing}"
    if (before, after) != (head, tail) or two_answers != "".join((prefix, *turns, opening, _FIRST, tail)):
        return {}
    return {
        "instruct_format": _format(instruct, {_SYSTEM: "system", _FIRST: "instruct"}),
        "chat_format": _format(turns[0], {_FIRST: "prompt", _ANSWER: "assistant"}),
        "chat_prefix": prefix,
        "prompt_prefix_chat": opening,
        "prompt_postfix_chat": tail,
        "instruct_without_system": _format(f"{head}{_FIRST}{tail}", {_FIRST: "instruct"}),
        "chat_with_system": _format(with_system.removesuffix(opening), {_SYSTEM: "system"}),
    }


def _with_system(template: ChatTemplate, user: dict[str, str]) -> str:
    """Render a system message; put it into the user's turn if the template drops or refuses it."""
    try:
        rendered = template.render([{"role": "system", "content": _SYSTEM}, user])
    except LLMError:
        rendered = ""
    joined = {**user, "content": f"{_SYSTEM}\n\n{user['content']}"}
    return rendered if _SYSTEM in rendered else template.render([joined])


def _format(text: str, names: dict[str, str]) -> str:
    """Convert `text` to a format string, with a field in place of each placeholder character."""
    text = text.replace("{", "{{").replace("}", "}}")
    for placeholder, name in names.items():
        text = text.replace(placeholder, f"{{{name}}}")
    return text
