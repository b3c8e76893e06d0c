"""Validate a parsed family file and convert it to a `Family`; errors name file, role and key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgument, TemplateError, nearest
from .answers.formats import AnswerMarks, CallFormat, ReasoningFormat, call_format, reasoning_in
from .placeholders import PlaceholderText, content_operation, parse_placeholders
from .reader import Reader
from .schema import (
    OTHERS,
    Alternation,
    Begin,
    Case,
    Family,
    Prompt,
    Query,
    Role,
    System,
    Thinking,
    When,
)
from .tools import call_writer, read_tool_call, read_tools

__all__ = ["read_family"]

#: Values of a role that are not a mapping.
ROLE_WORDS = ("drop", "remove", "refuse")

FAMILY_KEYS = (
    "family", "aliases", "description", "source", "bos", "eos", "bos_by", "stop_words", "special_tokens",
    "options", "system", "alternation", "query", "prompt", "roles", "tools", "tool_call",
    "tool_parser", "reasoning",
)  # fmt: skip
ROLE_KEYS = ("begin", "end", "content", "think", "cases", "api_role", "fallback_role", "generate")
SYSTEM_KEYS = (
    "take", "begin", "end", "default", "default_unless", "content", "empty", "join", "put", "at", "required",
)  # fmt: skip
CASE_KEYS = ("when", "begin", "end", "content", "drop", "refuse")
PROMPT_CASE_KEYS = ("when", "begin", "end", "generation", "refuse")
TURN_CONDITIONS = (
    "first", "last", "empty", "generation", "reasoning", "calls", "after_calls", "after_query", "previous",
    "next", "seen", "contains", "parity", "option",
)  # fmt: skip
PROMPT_CONDITIONS = ("generation", "opens_with", "ends_with", "first_turn", "last_turn", "option")
FLAGS = ("first", "last", "empty", "generation", "reasoning", "calls", "after_calls", "after_query")


class _TextParser:
    """Parse the texts of one family, which share its BOS, EOS and options."""

    def __init__(self, bos: str, eos: str, options: Mapping[str, Any]) -> None:
        self._fixed = {"bos": bos, "eos": eos}
        self._options = tuple(options)
        self.writes_bos = False

    def parse(self, where: str, text: str) -> str | PlaceholderText:
        """Parse the placeholders in `text`."""
        self.writes_bos = self.writes_bos or "{bos}" in text
        return parse_placeholders(where, text, fixed=self._fixed, names=self._options)

    def read(self, reader: Reader, key: str) -> str | PlaceholderText:
        """Read and parse the text of `key`."""
        return self.parse(reader.location(key), reader.text(key))


def read_family(raw: object, where: str) -> Family:
    """Validate and convert a parsed family file.

    Args:
        raw: The mapping in the file.
        where: Name of the file, for errors.

    Raises:
        TemplateError: The file is not valid; the message names the location and the nearest valid key.
    """
    reader = Reader(raw, where, FAMILY_KEYS)
    bos, eos = reader.text("bos"), reader.text("eos")
    options = reader.mapping("options")
    for name, value in options.items():
        if not isinstance(value, (str, bool, int, float, type(None))):
            raise TemplateError(f"{where}: options.{name}: expected a string, a number, true, false or null")
    texts = _TextParser(bos, eos, options)
    parsed_options = {
        name: texts.parse(f"{where}: options.{name}", value) if isinstance(value, str) else value
        for name, value in options.items()
    }
    roles = _roles(reader, texts, options)
    marks = _call_marks(reader)
    calls = reader.raw("tool_call") if "tool_call" in reader else None
    tool_call = call_writer(marks) if calls is None else read_tool_call(calls, f"{where}: tool_call", marks)
    if marks is None and tool_call is not None:
        marks = tool_call.marks
    family = Family(
        name=reader.text("family") or where,
        where=where,
        aliases=reader.texts("aliases"),
        bos=bos,
        eos=eos,
        stop_words=reader.texts("stop_words"),
        special_tokens=reader.texts("special_tokens"),
        options=parsed_options,
        system=_system(reader, texts) if "system" in reader else None,
        alternation=_alternation(reader),
        query=_query(reader),
        prompt=_prompt(reader, texts, options),
        roles={name: role for name, role in roles.items() if name != OTHERS},
        others=roles.get(OTHERS, Role(word="refuse")),
        tools=read_tools(reader.raw("tools"), f"{where}: tools") if "tools" in reader else None,
        tool_call=tool_call,
        answers=_answers(reader, roles.get("assistant", Role()), marks),
        bos_by=reader.choice("bos_by", ("text", "server", "none"), "text" if texts.writes_bos else "none"),
    )
    _check_bos(family, writes_bos=texts.writes_bos)
    return family


def _call_marks(reader: Reader) -> CallFormat | None:
    name = reader.text("tool_parser")
    try:
        return call_format(name) if name else None
    except InvalidArgument as error:
        raise TemplateError(f"{reader.where}: {error}") from None


def _answers(reader: Reader, assistant: Role, calls: CallFormat | None) -> AnswerMarks:
    tags = _think(reader, "reasoning") or assistant.think
    if tags is None:
        return AnswerMarks(calls)
    return AnswerMarks(calls, reasoning_in(tags.open + tags.close) or ReasoningFormat(tags.open, tags.close))


def _check_bos(family: Family, *, writes_bos: bool) -> None:
    if (family.bos_by == "text") != writes_bos:
        fact = "uses {bos} in its texts" if writes_bos else "never writes {bos}"
        raise TemplateError(f"{family.where}: bos_by is {family.bos_by!r}, but the template {fact}")
    if family.bos_by != "none" and not family.bos:
        raise TemplateError(f"{family.where}: bos is missing (bos_by is {family.bos_by!r})")


def _roles(reader: Reader, texts: _TextParser, options: Mapping[str, Any]) -> dict[str, Role]:
    raw = reader.mapping("roles")
    if not raw:
        raise TemplateError(f"{reader.where}: roles is missing")
    roles = {
        name: _role(entry, f"{reader.where}: roles.{name}", texts, options) for name, entry in raw.items()
    }
    for name, role in roles.items():
        if role.fallback_role and (
            role.fallback_role not in roles or roles[role.fallback_role].fallback_role
        ):
            known = [other for other in roles if other != name and other != OTHERS]
            raise TemplateError(
                f"{reader.where}: roles.{name}.fallback_role: {role.fallback_role!r} is not a role with an "
                f"entry of its own{nearest(role.fallback_role, known)} (allowed: {', '.join(known)})"
            )
    return {name: roles.get(role.fallback_role, role) for name, role in roles.items()}


def _role(raw: object, where: str, texts: _TextParser, options: Mapping[str, Any]) -> Role:
    if isinstance(raw, str):
        if raw not in ROLE_WORDS:
            raise TemplateError(
                f"{where}: unknown value {raw!r}{nearest(raw, ROLE_WORDS)} "
                f"(allowed: a mapping, {', '.join(ROLE_WORDS)})"
            )
        return Role(word=raw)
    reader = Reader(raw, where, ROLE_KEYS)
    return Role(
        begin=_begin(reader, texts),
        end=texts.read(reader, "end"),
        content=content_operation(reader.location("content"), reader.raw("content")),
        think=_think(reader),
        cases=_cases(reader, texts, CASE_KEYS, TURN_CONDITIONS, options),
        api_role=reader.text("api_role"),
        fallback_role=reader.text("fallback_role"),
        generate=reader.flag("generate"),
    )


def _begin(reader: Reader, texts: _TextParser) -> str | PlaceholderText | Begin:
    if not isinstance(reader.raw("begin"), Mapping):
        return texts.read(reader, "begin")
    begin = Reader(reader.raw("begin"), reader.location("begin"), ("with_name", "without_name", "name"))
    names = begin.mapping("name")
    for name, spelling in names.items():
        if not isinstance(spelling, str):
            raise TemplateError(f"{begin.where}.name.{name}: expected a string, got {spelling!r}")
    return Begin(texts.read(begin, "with_name"), texts.read(begin, "without_name"), names)


def _think(reader: Reader, key: str = "think") -> Thinking | None:
    if key not in reader:
        return None
    think = Reader(reader.raw(key), reader.location(key), ("open", "close"))
    if not think.text("open") or not think.text("close"):
        raise TemplateError(f"{think.where}: 'open' and 'close' must both hold a mark")
    return Thinking(think.text("open"), think.text("close"))


def _system(reader: Reader, texts: _TextParser) -> System:
    system = Reader(reader.raw("system"), f"{reader.where}: system", SYSTEM_KEYS)
    return System(
        take=system.choice("take", ("first", "all", "last"), "first"),
        begin=texts.read(system, "begin"),
        end=texts.read(system, "end"),
        default=texts.read(system, "default") if system.optional_text("default") is not None else None,
        default_unless=system.choice("default_unless", ("first", "any"), "first"),
        content=content_operation(system.location("content"), system.raw("content")),
        empty=system.choice("empty", ("keep", "drop", "default"), "keep"),
        join=system.text("join"),
        put=system.choice("put", ("start", "first", "first_user", "last", "last_user"), "start"),
        at=system.choice("at", ("before", "inside", "content"), "inside"),
        required=system.flag("required"),
    )


def _alternation(reader: Reader) -> Alternation | None:
    raw = reader.raw("alternation", False)
    if isinstance(raw, bool):
        return Alternation(frozenset()) if raw else None
    section = Reader(raw, f"{reader.where}: alternation", ("skip",))
    return Alternation(frozenset(section.texts("skip")))


def _query(reader: Reader) -> Query:
    if "query" not in reader:
        return Query("user", "", "")
    section = Reader(reader.raw("query"), f"{reader.where}: query", ("role", "unless_begins", "unless_ends"))
    return Query(section.text("role", "user"), section.text("unless_begins"), section.text("unless_ends"))


def _prompt(reader: Reader, texts: _TextParser, options: Mapping[str, Any]) -> Prompt:
    if "prompt" not in reader:
        return Prompt()
    prompt = Reader(reader.raw("prompt"), f"{reader.where}: prompt", ("begin", "end", "generation", "cases"))
    return Prompt(
        begin=texts.read(prompt, "begin"),
        end=texts.read(prompt, "end"),
        generation=texts.read(prompt, "generation"),
        cases=_cases(prompt, texts, PROMPT_CASE_KEYS, PROMPT_CONDITIONS, options),
    )


def _cases(
    reader: Reader,
    texts: _TextParser,
    keys: tuple[str, ...],
    conditions: tuple[str, ...],
    options: Mapping[str, Any],
) -> tuple[Case, ...]:
    cases = []
    for index, raw in enumerate(reader.items("cases")):
        case = Reader(raw, f"{reader.location('cases')}[{index}]", keys)
        if not case.mapping("when"):
            raise TemplateError(f"{case.where}: 'when' is missing")
        cases.append(
            Case(
                when=_when(Reader(case.raw("when"), case.location("when"), conditions), options),
                texts={key: texts.read(case, key) for key in ("begin", "end", "generation") if key in case},
                content=content_operation(case.location("content"), case.raw("content")),
                has_content="content" in case,
                drop=case.flag("drop"),
                refuse=case.text("refuse"),
            )
        )
    return tuple(cases)


def _when(reader: Reader, options: Mapping[str, Any]) -> When:
    conditions: list[tuple[str, Any]] = []
    for name in (*TURN_CONDITIONS, *PROMPT_CONDITIONS):
        if name not in reader or any(name == known for known, _ in conditions):
            continue
        if name in FLAGS:
            conditions.append((name, reader.flag(name)))
        elif name == "contains":
            conditions.append((name, reader.text(name)))
        elif name == "parity":
            conditions.append((name, reader.choice(name, ("even", "odd"), "") == "odd"))
        elif name == "option":
            conditions += [("option", pair) for pair in _option_pairs(reader, options)]
        else:
            conditions.append((name, frozenset(reader.texts(name))))
    return When(tuple(conditions))


def _option_pairs(reader: Reader, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    wanted = reader.mapping("option")
    for name in wanted:
        if name not in options:
            raise TemplateError(
                f"{reader.location('option')}: unknown option {name!r}{nearest(name, options)} "
                f"(allowed: {', '.join(options) or 'none: the family has no options'})"
            )
    return list(wanted.items())
