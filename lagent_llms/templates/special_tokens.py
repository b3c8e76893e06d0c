"""The special tokens of a family."""

from __future__ import annotations

from datetime import datetime

from .fast_path import begin_without_name
from .marks import marks_in
from .placeholders import PlaceholderText
from .schema import Begin, Family
from .tools import ToolsInSystemText

__all__ = ["special_tokens"]


def special_tokens(family: Family) -> tuple[str, ...]:
    """Special tokens of a family: those its file lists, else those found in its texts."""
    if family.special_tokens:
        return family.special_tokens
    prompt = family.prompt
    found: list[str | PlaceholderText] = [prompt.begin, prompt.end, prompt.generation]
    for role in (*family.roles.values(), family.others):
        case_texts = [text for case in role.cases for text in case.texts.values()]
        found += [begin_without_name(role), role.end, *case_texts]
        found += role.begin.names.values() if isinstance(role.begin, Begin) else ()
    if isinstance(family.tools, ToolsInSystemText):
        found += [family.tools.begin, family.tools.item, family.tools.end]
    if family.system is not None:
        found += [family.system.begin, family.system.end]
    if (calls := family.tool_call) is not None:
        found += [calls.begin, calls.end, calls.open, calls.close, calls.call]
    texts = [
        text.fill({**family.options, "role": name, "now": datetime.min})
        if isinstance(text, PlaceholderText)
        else text
        for text in found
        for name in ((*family.roles, "system") if isinstance(text, PlaceholderText) else ("",))
    ]
    return tuple(filter(None, dict.fromkeys((family.bos, family.eos, *family.stop_words, *marks_in(texts)))))
