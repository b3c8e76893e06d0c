"""Recognize special tokens by their form."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["BARS", "FORMS", "looks_like_mark", "marks_in"]

#: <|im_end|>, <｜User｜>: in no ordinary text.
BARS = r"<[|｜][^<>|｜\s]{1,64}[|｜]>"
#: Special tokens of other forms, of all known families and tokenizers.
_NAMED = (
    r"</?s>|<(?:bos|eos|pad|unk|sep|cls|mask|sop|eop|eod)>|<(?:start|end)_of_(?:turn|image|text)>"
    r"|<(?:BOS|EOS|PAD|UNK|CLS|SEP|MASK|EOP)(?:_TOKEN)?>|\[(?:BOS|EOS|PAD|UNK|CLS|SEP|MASK|gMASK|sMASK)\]"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|IMG|THINK)\]"
    r"|<</?SYS>>|\[\|[^\]|\s]{1,32}\|\]|</?(?:think|tool_call|tool_calls|tool_response|tools)>"
    r"|<(?:end_message|start_assistant|start_system|start_user|step|用户|AI)>|<(?:reserved|unused)_?\d+>"
)
#: Special tokens of all known families and tokenizers, by their form.
FORMS = f"{BARS}|{_NAMED}"
_IN_TEMPLATES = re.compile(r"<[|｜]?[^<>\s]{1,40}[|｜]?>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|\[\|[^\]\s]+\|\]")
#: What opens a turn of a family whose marks are words: "### User:", "@@ Instruction", "USER:".
_WORDS = re.compile(r"^[ \t]*((?:#{2,}|@@) ?[A-Z][\w ]*:?|[A-Z]\w*(?: [A-Z]\w*)*:)", re.MULTILINE)


def marks_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The special tokens in the texts of a template, by form; without any, words that open turns."""
    found: dict[str, None] = {}
    for text in texts:
        found.update(dict.fromkeys(_IN_TEMPLATES.findall(text) or _WORDS.findall(text)))
    return tuple(found)


def looks_like_mark(token: str) -> bool:
    """Whether `token` has the form of a special token of a known family."""
    return re.fullmatch(FORMS, token) is not None
