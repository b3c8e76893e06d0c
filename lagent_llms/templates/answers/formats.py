"""How models write reasoning and calls of tools: tables, one row a format, which other modules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import InvalidArgument, nearest

__all__ = [
    "CALL_FORMATS",
    "AnswerMarks",
    "CallFormat",
    "ReasoningFormat",
    "call_format",
    "format_in",
    "reasoning_in",
]


@dataclass(frozen=True, slots=True)
class CallFormat:
    r"""How a model writes calls of tools.

    An answer may hold any number of sections: one of `begin`, calls, `end`. A call is `item`, then JSON with
    name and arguments; with `head` the name, then a JSON object; with `parameter` as well the arguments one
    by one in place of the object; with `quote` an object whose strings stand in quotes of their own; or, if
    `python`, calls are a list in Python. Ends may be missing.

    Attributes:
        begin: Marks before the calls.
        end: Mark after the calls.
        item: Mark before each call; a call may come with it alone.
        item_end: Marks after each call, in their order.
        opens: Characters with which an answer may begin a call without a mark.
        head: Regular expression from the item to the arguments, with groups ``name`` and perhaps ``id``.
        name: Key of the name.
        arguments: Keys of the arguments.
        id: Key of the id.
        parameter: Regular expression of what precedes an argument, with a group ``key``, and perhaps ``raw``,
            which is 'true' for an argument that is text.
        parameter_end: Mark after an argument.
        quote: Mark around strings.
        python: Calls are written in Python.
    """

    begin: tuple[str, ...] = ()
    end: str = ""
    item: str = ""
    item_end: tuple[str, ...] = ()
    opens: str = ""
    head: str = ""
    name: str = "name"
    arguments: tuple[str, ...] = ("arguments", "parameters")
    id: str = "id"
    parameter: str = ""
    parameter_end: str = ""
    quote: str = ""
    python: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks with which a call may begin."""
        return (*self.begin, self.item) if self.item else self.begin


_WORD = r"(?P<name>[\w.\-]+)"
_GEMMA_HEAD = rf"call:{_WORD}(?=\{{)"
_DSML = "｜DSML｜"
_ARG_KEY = r"<arg_key>(?P<key>[^<]*)</arg_key>\s*<arg_value>"


def _tags(
    begin: str, end: str, *, item: str, item_end: str, parameter: str, parameter_end: str
) -> CallFormat:
    """Arguments in tags of their own: ``<function=NAME> <parameter=KEY>VALUE</parameter> </function>``."""
    return CallFormat(
        (begin,), end, item, (item_end,), head=r'"?(?P<name>[^<>"\s]+)"?\s*>',
        parameter=parameter, parameter_end=parameter_end,
    )  # fmt: skip


_FUNCTION = {
    "item": "<function=",
    "item_end": "</function>",
    "parameter": r"<parameter=(?P<key>[^<>]+)>",
    "parameter_end": "</parameter>",
}

#: Parser to format; the order is that in which a template's calls are tried.
CALL_FORMATS: Mapping[str, CallFormat] = {
    "hermes": CallFormat(("<tool_call>",), "</tool_call>"),
    "internlm2": CallFormat(("<|action_start|><|plugin|>",), "<|action_end|>"),
    "qwen3-coder": _tags("<tool_call>", "</tool_call>", **_FUNCTION),
    "glm-4.5": CallFormat(
        ("<tool_call>",), "</tool_call>", head=r"(?P<name>[^\s<>{}]+)\s*(?=<)",
        parameter=_ARG_KEY, parameter_end="</arg_value>",
    ),
    "mistral": CallFormat(
        ("[TOOL_CALLS]",), "[/TOOL_CALLS]",
        head=_WORD + r"(?:\[CALL_ID\](?P<id>[\w\-]+))?(?:\[ARGS\])?\s*(?=\{)",
    ),
    "deepseek-v3": CallFormat(
        ("<｜tool▁calls▁begin｜>",), "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
        ("```", "<｜tool▁call▁end｜>"),
        head=r"(?:function<｜tool▁sep｜>)?(?P<name>[^\s<>{}`]+)(?:<｜tool▁sep｜>)?\s*(?:```(?:json)?)?\s*(?=\{)",
    ),
    "deepseek-v3.2": _tags(
        f"<{_DSML}function_calls>", f"</{_DSML}function_calls>",
        item=f"<{_DSML}invoke name=", item_end=f"</{_DSML}invoke>",
        parameter=rf'<{_DSML}parameter name="(?P<key>[^"<>]+)"(?: string="(?P<raw>true|false)")?>',
        parameter_end=f"</{_DSML}parameter>",
    ),
    "kimi-k2": CallFormat(
        ("<|tool_calls_section_begin|>",), "<|tool_calls_section_end|>", "<|tool_call_begin|>",
        ("<|tool_call_end|>",),
        head=r"(?P<id>(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?)\s*<\|tool_call_argument_begin\|>\s*(?=\{)",
    ),
    "gpt-oss": CallFormat(
        ("<|channel|>commentary to=functions.", "<|channel|>analysis to=functions.",
         "<|start|>assistant to=functions.", " to=functions."),
        "<|call|>", head=_WORD + r"[^{]{0,200}?<\|message\|>\s*(?=\{)",
    ),
    "minimax-m2": _tags(
        "<minimax:tool_call>", "</minimax:tool_call>", item="<invoke name=", item_end="</invoke>",
        parameter=r'<parameter name="(?P<key>[^"<>]+)">', parameter_end="</parameter>",
    ),
    "seed-oss": _tags("<seed:tool_call>", "</seed:tool_call>", **_FUNCTION),
    "command-r7b": CallFormat(
        ("<|START_ACTION|>",), "<|END_ACTION|>", name="tool_name", arguments=("parameters",),
        id="tool_call_id",
    ),
    "llama-3": CallFormat(("<|python_tag|>",), opens="{"),
    "xlam": CallFormat(opens="[{"),
    "pythonic": CallFormat(("<|python_start|>", "<|python_tag|>"), "<|python_end|>", opens="[", python=True),
    "granite": CallFormat(("<|tool_call|>", "<tool_call>"), "</tool_call>", opens="["),
    "phi-4-mini": CallFormat(("<|tool_call|>", "functools"), "<|/tool_call|>", opens="[{"),
    "hunyuan": CallFormat(("<tool_calls>",), "</tool_calls>"),
    "nemotron-nano": CallFormat(("<TOOLCALL>",), "</TOOLCALL>"),
    "functiongemma": CallFormat(
        ("<start_function_call>",), "<end_function_call>", head=_GEMMA_HEAD, quote="<escape>"
    ),
    "gemma-4": CallFormat(("<|tool_call>",), "<tool_call|>", head=_GEMMA_HEAD, quote='<|"|>'),
    "lfm2": CallFormat(("<|tool_call_start|>",), "<|tool_call_end|>", python=True),
}  # fmt: skip


#: Further names, those of models, to parsers.
_ALIASES = {
    **dict.fromkeys(("qwen2.5", "qwen3", "granite-4.0", "longcat"), "hermes"),
    **dict.fromkeys(("deepseek-r1", "deepseek-v3.1"), "deepseek-v3"),
    **dict.fromkeys(("llama-3.1", "llama-3.2", "llama-3.3", "llama-4"), "llama-3"),
    **dict.fromkeys(("qwen3.5", "nemotron-3"), "qwen3-coder"),
    **dict.fromkeys(("glm-4.6", "glm-4.7"), "glm-4.5"),
    **dict.fromkeys(("jamba", "minimax-m1"), "hunyuan"),
    "harmony": "gpt-oss",
}


def call_format(name: str) -> CallFormat:
    """The format of a parser.

    Raises:
        InvalidArgument: There is no such parser.
    """
    key = name.lower().replace("_", "-")
    found = CALL_FORMATS.get(_ALIASES.get(key, key))
    if found is None:
        raise InvalidArgument(
            f"tool_parser={name!r}: no such parser{nearest(name, (*CALL_FORMATS, *_ALIASES))}; allowed are "
            f"'auto', None and {', '.join(sorted(CALL_FORMATS))}",
            argument="tool_parser",
        )
    return found


def format_in(source: str) -> CallFormat | None:
    """The format whose marks the source of a template has, None if it has none."""
    scores = {name: _score(marks, source) for name, marks in CALL_FORMATS.items()}
    best = max(scores, key=scores.__getitem__)
    return CALL_FORMATS[best] if scores[best] > 0 else None


def _score(marks: CallFormat, source: str) -> float:
    """The share of the marks that `source` has; more of them count more. 0 without one before the calls."""
    if not any(mark in source for mark in marks.begin):
        return 0
    others = [
        mark for mark in (marks.end, marks.item, *marks.item_end, marks.parameter_end, marks.quote) if mark
    ]
    found = sum(mark in source for mark in others)
    return (found + 1) / (len(others) + 1) + found / 100


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a model writes its reasoning.

    Attributes:
        open: Mark before it.
        close: Mark after it.
        anywhere: Reasoning may begin anywhere in the answer, and again; False: only at its beginning, so that
            an answer may mention the marks.
        removed: Further marks, which are no part of the text.
    """

    open: str
    close: str
    anywhere: bool = False
    removed: tuple[str, ...] = ()


_HARMONY = ("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>",
            "<|end|>", "<|return|>")  # fmt: skip

#: What models write, found by the marks in their templates: more special ones first.
_REASONING = (
    ReasoningFormat("<|channel|>analysis<|message|>", "<|end|>", True, _HARMONY),
    ReasoningFormat(
        "<|START_THINKING|>", "<|END_THINKING|>", True, ("<|START_RESPONSE|>", "<|END_RESPONSE|>")
    ),
    ReasoningFormat("<|channel>thought\n", "<channel|>", True),
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("◁think▷", "◁/think▷"),
    ReasoningFormat("<think>", "</think>"),
)


def reasoning_in(source: str) -> ReasoningFormat | None:
    """The format whose marks the source of a template has, None if it has none."""
    for found in _REASONING:
        if found.close in source and (found.close.startswith("</") or found.open.rstrip() in source):
            return found
    return None


class AnswerMarks(NamedTuple):
    """What the models of a template write into their answers.

    Attributes:
        calls: Calls of tools, None if that is unknown.
        reasoning: Reasoning, None if there is none.
    """

    calls: CallFormat | None = None
    reasoning: ReasoningFormat | None = None
