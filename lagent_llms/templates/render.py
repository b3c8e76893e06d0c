"""Render a dialog with a family: the text before the turns, the turns, and the text after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, cast

from ..errors import TemplateError, UnsupportedParameter, nearest
from ..schema import Message
from ..validators import shown
from .answers.formats import AnswerMarks
from .base import NO_CALLS, ChatTemplate, text_of
from .cases import PromptContext, TurnContext, compile_case
from .fast_path import FastPath, Kind, begin_for_name, compile_fast_path, fill, kinds_of
from .history import History, Rendered, Written
from .placeholders import PlaceholderText, Values, local_time
from .reasoning import take_reasoning
from .schema import NONE, OTHERS, Begin, Family, Role
from .special_tokens import special_tokens
from .system_message import START, check_alternation, system_position, system_text, turns_of
from .tool_results import result_roles, with_tool_role
from .tools import SEVERAL_SPELLINGS, ToolsMessage, with_ids

__all__ = ["MetaTemplate"]

_ROLE = itemgetter("role")
_CONTENT = itemgetter("content")
#: Largest number of cached fast paths, and of kinds in one (a dialog may hold any name).
_MAX_FAST_PATHS = 64


class MetaTemplate(ChatTemplate):
    """Chat template of a `Family`.

    Args:
        family: The validated family.
    """

    def __init__(self, family: Family) -> None:
        self.family = family = with_tool_role(family)
        self.name = family.name
        self.aliases = family.aliases
        self.bos = family.bos
        self.bos_by = cast(Literal["text", "server", "none"], family.bos_by)
        self.stop_words = family.stop_words
        self.tool_call = family.tool_call
        self.special_tokens = special_tokens(family)
        self.writes_tool_calls = family.tool_call is not None
        self.result_roles = result_roles(family)
        roles = _all_roles(family)
        self._cases = {name: tuple(map(compile_case, role.cases)) for name, role in roles.items()}
        self._prompt_cases = tuple(map(compile_case, family.prompt.cases))
        self._uses_last_query = any(
            name == "after_query" for role in roles.values() for case in role.cases
            for name, _ in case.when.conditions
        )  # fmt: skip
        self._system_at = family.system.at if family.system is not None else ""
        self._defaults: dict[str, Any] = {"now": local_time, **family.options}
        self._moving = any(isinstance(value, PlaceholderText) for value in family.options.values())
        self._fast_paths: dict[frozenset[Kind], tuple[FastPath | None]] = {}

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that the family allows; '*' stands for any."""
        system = ("system",) if self.family.system else ()
        allowed = (name for name, role in _all_roles(self.family).items() if role.word != "refuse")
        return tuple(dict.fromkeys((*system, *allowed)))

    def answer_marks(self) -> AnswerMarks:
        """See `ChatTemplate.answer_marks`."""
        return self.family.answers

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """See `ChatTemplate.render`."""
        if tools and self.family.tools is None:
            raise UnsupportedParameter(
                f"{self.name}: this template has no place for tools", parameter="tools", backend=self.name
            )
        if tools and isinstance(self.family.tools, ToolsMessage):
            messages, tools = self.family.tools.insert(messages, tools), None
        values = self._values(options)
        generation = add_generation_prompt and not continue_final_message
        roles = [*map(_ROLE, messages)]
        turns = turns_of(self.family, roles)
        around = self._around(roles, turns, values, generation)
        parts = [around["begin"]]
        self._write(messages, roles, turns, values, tools, parts, generation, continue_final_message)
        if not continue_final_message:
            parts.append(around["generation" if generation else "end"])
        return "".join(parts)

    def history_text(self, messages: Sequence[Message]) -> str:
        """The text of a dialog that continues: without generation prompt and without closing text."""
        values = self._values({})
        roles = [*map(_ROLE, messages)]
        turns = turns_of(self.family, roles)
        parts = [self._around(roles, turns, values, False)["begin"]]
        self._write(messages, roles, turns, values, None, parts, False, False)
        return "".join(parts)

    def turn(
        self,
        history: History,
        messages: Sequence[Message],
        /,
        *,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> Rendered:
        """See `ChatTemplate.turn`; from its third turn on a dialog costs only what is new, where it can."""
        if not history.messages or tools or continue_final_message or options:
            return super().turn(
                history, messages, tools=tools, continue_final_message=continue_final_message, **options
            )
        dialog = (*history.messages, *messages)
        written = history.written
        if written is not None and (grown := self._grown(written, dialog[written.messages :])) is not None:
            written, prompt = grown
        else:
            prompt, written = self.render(dialog), self._written(dialog)
        return Rendered(prompt, History(dialog, prompt, written))

    def _written(self, messages: Sequence[Message]) -> Written | None:
        """A dialog to continue from with `_grown`; None where a further turn may change what precedes it."""
        roles = [*map(_ROLE, messages)]
        turns = turns_of(self.family, roles)
        kinds = frozenset(roles[place] for place in turns)
        put = self.family.system.put if self.family.system is not None else "start"
        placed = put in ("start", "first") or (put == "first_user" and "user" in kinds)
        if self._moving or not placed or not kinds or self._steady(kinds) is None:
            return None
        try:
            begin = self._around(roles, turns, self._defaults, False)["begin"]
            text = self.history_text(messages)
        except TemplateError:  # the template allows no dialog without a generation prompt
            return None
        return Written(text, begin, len(roles), len(turns), kinds, roles[0], roles[turns[0]])

    def _grown(self, written: Written, messages: Sequence[Message]) -> tuple[Written, str] | None:
        """The dialog with further messages, and its prompt, at the cost of those messages alone.

        Returns:
            None where all of the dialog must be rendered: it may not be allowed, or change what precedes it.
        """
        roles = [*map(_ROLE, messages)]
        taken = self.family.system is not None and "system" in roles
        if not roles or taken or not all(len(message) == 2 for message in messages):
            return None
        bulk = self._steady(written.kinds.union(roles))
        if bulk is None or len(turns_of(self.family, roles)) != len(roles):
            return None
        alternation = self.family.alternation
        if alternation is not None:
            expected = ("user", "assistant") if written.turns % 2 == 0 else ("assistant", "user")
            if alternation.skip or any(role != expected[place % 2] for place, role in enumerate(roles)):
                return None
        try:
            text = written.text + bulk.write(roles, [*map(_CONTENT, messages)])
        except (KeyError, TypeError, AttributeError):  # a content that is no string, or none
            return None
        ends = [written.opens_with, written.first_turn, *roles]
        around = self._around(ends, range(1, len(ends)), self._defaults, True)
        if around["begin"] != written.begin:
            return None
        further = written._replace(
            text=text,
            messages=written.messages + len(roles),
            turns=written.turns + len(roles),
            kinds=written.kinds.union(roles),
        )
        return further, text + around["generation"]

    def _steady(self, kinds: frozenset[str]) -> FastPath | None:
        """The fast path for turns of these roles, if their text does not depend on their position at all."""
        fast_path = self._fast_path(kinds)
        return None if fast_path is None or fast_path.has_edge_cases else fast_path

    def _values(self, options: Mapping[str, Any]) -> Values:
        if not options and not self._moving:
            return self._defaults
        for name in options:
            if name not in self._defaults:
                raise TemplateError(
                    f"{self.name}: unknown option {name!r}{nearest(name, self._defaults)} "
                    f"(allowed: {', '.join(self._defaults)})"
                )
        values = {**self._defaults, **options}
        return {
            name: value.fill(values) if isinstance(value, PlaceholderText) else value
            for name, value in values.items()
        }

    def _around(
        self, roles: Sequence[str], turns: Sequence[int], values: Values, generation: bool
    ) -> Mapping[str, str]:
        """Texts before and after the turns: 'begin', 'end', 'generation'."""
        prompt = self.family.prompt
        texts = {"begin": prompt.begin, "end": prompt.end, "generation": prompt.generation}
        if self._prompt_cases:
            context = PromptContext(
                values=values,
                generation=generation,
                opens_with=roles[0] if roles else NONE,
                ends_with=roles[-1] if roles else NONE,
                first_turn=roles[turns[0]] if turns else NONE,
                last_turn=roles[turns[-1]] if turns else NONE,
            )
            for case in self._prompt_cases:
                if case.holds(context):
                    if case.refuse:
                        raise TemplateError(f"{self.name}: {case.refuse}")
                    texts.update(case.texts)
        return {key: fill(text, values) for key, text in texts.items()}

    def _write(
        self,
        messages: Sequence[Message],
        roles: Sequence[str],
        turns: Sequence[int],
        values: Values,
        tools: Sequence[Any] | None,
        parts: list[str],
        generation: bool,
        open_end: bool,
    ) -> None:
        """Append the system text and the turns to `parts`, on the fast path where possible."""
        if self.tool_call is not None and self.tool_call.writes_ids:
            messages = with_ids(messages)
        system = system_text(self.family, messages, roles, values, tools)
        if open_end and (not turns or turns[-1] != len(messages) - 1):
            raise TemplateError(
                f"{self.name}: the last message is not a turn of its own and cannot be continued"
            )
        if len(turns) != len(messages):
            messages, roles = [messages[index] for index in turns], [roles[index] for index in turns]
        if self.family.alternation is not None:
            check_alternation(self.family, messages, roles, turns)
        target = system_position(self.family, roles) if system is not None else START
        if system is not None and target == START:
            parts.append(system)
        last_query = self._last_query(messages, turns) if self._uses_last_query else len(roles)

        def write_one(position: int) -> None:
            message, index = messages[position], turns[position]
            text = text_of(message, index, self.name)
            after_calls = position > 0 and bool(messages[position - 1].get("tool_calls"))
            turn = TurnContext(
                values, roles, position, index, message, text, generation, last_query, after_calls
            )
            self._write_turn(turn, parts, system if position == target else None, open_end and turn.last)

        kinds, unusual = kinds_of(messages, roles, self.family.roles, self.family.others)
        fast_path = self._fast_path(frozenset(kinds))
        if fast_path is None:
            for position in range(len(roles)):
                write_one(position)
            return
        start = 0
        special = self._special_turns(len(roles), unusual, fast_path, target, last_query, open_end)
        for position in (*special, len(roles)):
            if start < position:
                contents = messages[start:position]
                try:
                    parts.append(fast_path.write(kinds[start:position], [*map(_CONTENT, contents)]))
                except (KeyError, TypeError, AttributeError):  # a content is missing or not a string
                    for single in range(start, position):
                        write_one(single)
            if position < len(roles):
                write_one(position)
            start = position + 1

    def _special_turns(
        self,
        count: int,
        unusual: Sequence[int],
        fast_path: FastPath,
        target: int,
        last_query: int,
        open_end: bool,
    ) -> Sequence[int]:
        """Positions of the turns that are not rendered on the fast path, in order."""
        special = {target, *unusual} if target >= 0 else {*unusual}
        if fast_path.has_edge_cases:
            special.add(0)
            special.update(range(min(count - 1, last_query + 1), count))
        if open_end:
            special.add(count - 1)
        return sorted(special)

    def _fast_path(self, kinds: frozenset[Kind]) -> FastPath | None:
        """The cached fast path for a dialog of these kinds, None if there is none."""
        if (cached := self._fast_paths.get(kinds)) is not None:
            return cached[0]
        family = self.family
        fast_path = compile_fast_path(kinds, family.roles, family.others, self._cases, self._defaults)
        if len(kinds) <= _MAX_FAST_PATHS:
            if len(self._fast_paths) >= _MAX_FAST_PATHS:
                self._fast_paths.clear()
            self._fast_paths[kinds] = (fast_path,)
        return fast_path

    def _last_query(self, messages: Sequence[Message], turns: Sequence[int]) -> int:
        query = self.family.query
        for position in range(len(messages) - 1, -1, -1):
            if messages[position]["role"] == query.role:
                text = text_of(messages[position], turns[position], self.name)
                wrapped = query.begin and text.startswith(query.begin) and text.endswith(query.end)
                if not wrapped:
                    return position
        return len(messages)

    def _write_turn(self, turn: TurnContext, parts: list[str], system: str | None, open_end: bool) -> None:
        """Append one turn to `parts`, with the system text if that is merged into it."""
        role = self.family.roles.get(turn.role, self.family.others)
        if role.word == "drop" and open_end:
            raise TemplateError(
                f"{self._location(turn)}: the template drops this message, so it cannot be continued"
            )
        if role.word == "drop":
            return
        if role.word == "refuse":
            raise self._unknown_role(turn)
        if role.think is not None:
            take_reasoning(turn, role.think)
        if system is not None and self._system_at == "content":
            turn.content, system = system + turn.content, None
        begin, end, operation, drop = role.begin, role.end, role.content, False
        for case in self._cases.get(turn.role, self._cases[OTHERS]):
            if case.holds(turn):
                if case.refuse:
                    raise TemplateError(f"{self._location(turn)}: {case.refuse}")
                drop = drop or case.drop
                begin, end = case.texts.get("begin", begin), case.texts.get("end", end)
                operation = case.content if case.has_content else operation
        if drop:
            return
        calls = turn.message.get("tool_calls")
        replaces = self.tool_call.replaces if calls and self.tool_call is not None else ""
        if replaces == "turn":
            parts.append(self._tool_calls(calls, turn, after_content=False))
            return
        values = {**turn.values, "role": turn.role, "reasoning": turn.reasoning}
        if _holds_call_id(begin, end):
            values["call_id"] = self._call_id(turn)
        if isinstance(begin, Begin):
            begin = begin_for_name(begin, turn.message.get("name"), values)
        content = "" if replaces else turn.content if operation is None else operation(turn.content)
        before, inside = (system or "", "") if self._system_at == "before" else ("", system or "")
        parts += (before, fill(begin, values), inside, content)
        if calls:
            parts.append(self._tool_calls(calls, turn, after_content=bool(content)))
        if not open_end and not (role.generate and turn.last):
            parts.append(fill(end, values))

    def _tool_calls(self, calls: Any, turn: TurnContext, *, after_content: bool) -> str:
        if self.tool_call is None:
            reason = NO_CALLS if self.family.answers.calls is None else SEVERAL_SPELLINGS
            raise TemplateError(f"{self._location(turn)}: {reason}")
        return self.tool_call.write(calls, self._location(turn), after_content=after_content)

    def _call_id(self, turn: TurnContext) -> str:
        if not isinstance(found := turn.message.get("tool_call_id"), str):
            raise TemplateError(
                f"{self._location(turn)}: a result needs 'tool_call_id', the id of a call before it"
            )
        return found

    def _location(self, turn: TurnContext) -> str:
        return f"{self.name}: messages[{turn.index}] (role {turn.role!r})"

    def _unknown_role(self, turn: TurnContext) -> TemplateError:
        return TemplateError(
            f"{self.name}: messages[{turn.index}]: the template has no role {shown(turn.role)}"
            f"{nearest(turn.role, self.roles)} (allowed: {', '.join(self.roles)})"
        )


def _holds_call_id(*texts: object) -> bool:
    return any(isinstance(text, PlaceholderText) and "call_id" in text.pieces for text in texts)


def _all_roles(family: Family) -> dict[str, Role]:
    """Roles by name, with all others as '*'."""
    return {**family.roles, OTHERS: family.others}
