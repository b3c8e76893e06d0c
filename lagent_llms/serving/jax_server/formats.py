"""A model's own chat template as the formats of a `JAXServerConfig`. Pure."""

from __future__ import annotations

from ...errors import LLMError
from ...templates import ChatTemplate

__all__ = ["own_formats"]

_SYSTEM, _FIRST, _ANSWER, _SECOND = "\ue000\ue001\ue002\ue003"


def own_formats(template: ChatTemplate) -> dict[str, str]:
    """The format attributes that write what `template` writes; {} when no such formats can.

    ``chat_with_system`` is among them: what stands before a chat that has a system message.
    """
    user, answer = {"role": "user", "content": _FIRST}, {"role": "assistant", "content": _ANSWER}
    second = {"role": "user", "content": _SECOND}
    try:
        head, tail = template.render([user]).split(_FIRST)
        instruct = _with_system(template, user)
        grown = template.render([user, answer, second, answer, user])
        before, _, rest = template.render([user, answer, second]).partition(_FIRST)
        middle, _, rest = rest.partition(_ANSWER)
        between, after = rest.split(_SECOND)
        with_system, _ = instruct.split(_FIRST)
    except (LLMError, ValueError):  # a second turn is not allowed, or something is written twice
        return {}
    # What begins each turn: the longest end that all openings of a turn have in common.
    ends = (head[start:] for start in range(len(head) + 1))
    opening = next(end for end in ends if between.endswith(end) and with_system.endswith(end))
    prefix, closing = head.removesuffix(opening), between.removesuffix(opening)
    turns = f"{opening}{_FIRST}{middle}{_ANSWER}{closing}", f"{opening}{_SECOND}{middle}{_ANSWER}{closing}"
    if (before, after) != (head, tail) or grown != "".join((prefix, *turns, opening, _FIRST, tail)):
        return {}
    return {
        "instruct_format": _format(instruct, {_SYSTEM: "system", _FIRST: "instruct"}),
        "chat_format": _format(turns[0], {_FIRST: "prompt", _ANSWER: "assistant"}),
        "chat_prefix": prefix,
        "prompt_prefix_chat": opening,
        "prompt_postfix_chat": tail,
        "chat_with_system": _format(with_system.removesuffix(opening), {_SYSTEM: "system"}),
    }


def _with_system(template: ChatTemplate, user: dict[str, str]) -> str:
    """A prompt with a system message; in the user's turn where the template has no place for it."""
    try:
        written = template.render([{"role": "system", "content": _SYSTEM}, user])
    except LLMError:
        written = ""
    joined = {**user, "content": f"{_SYSTEM}\n\n{user['content']}"}
    return written if _SYSTEM in written else template.render([joined])


def _format(text: str, names: dict[str, str]) -> str:
    """`text` for ``str.format``, with a field where each mark is."""
    text = text.replace("{", "{{").replace("}", "}}")
    for mark, name in names.items():
        text = text.replace(mark, f"{{{name}}}")
    return text
