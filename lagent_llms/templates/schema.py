"""A family's format as data: what a family file says, once it is validated.

`docs/meta_templates.md` tells people the same. `validate` reads a file into a `Family`, `render` compiles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .placeholders import Operation, Text
from .tools import ToolCallForm, ToolsForm, ToolsMessage

__all__ = ["Alternation", "Begin", "Case", "Family", "Prompt", "Query", "Role", "System", "Thinking", "When"]

#: `previous`, `next`, `first_turn` …: what stands for "there is none".
NONE = "none"
#: The role entry that holds for every role without an entry of its own.
OTHERS = "*"


@dataclass(frozen=True, slots=True)
class When:
    """Conditions that must all hold; each is (name, expected value)."""

    conditions: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What is different where `when` holds. Cases apply in order, a later one over an earlier one.

    Attributes:
        when: The conditions.
        texts: Replaced texts by key ('begin', 'end', 'generation').
        content: Replaced operation on the content, if `has_content`.
        has_content: Whether `content` is replaced.
        drop: The turn leaves nothing.
        refuse: The reason a dialog is refused with, '' when it is not.
    """

    when: When
    texts: Mapping[str, str | Text]
    content: Operation | None = None
    has_content: bool = False
    drop: bool = False
    refuse: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """lagent's begin of a role that can have a name.

    Attributes:
        with_name: Text before the content when the message has a name; holds {name}.
        without_name: Text before the content when it has none.
        names: Names that are written otherwise.
    """

    with_name: str | Text
    without_name: str | Text
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Thinking:
    """How an answer holds its reasoning: between `open` and `close`."""

    open: str
    close: str


@dataclass(frozen=True, slots=True)
class Role:
    """How the messages of one role are written.

    Attributes:
        word: '', or 'drop' (leaves nothing, is still a neighbour), 'remove' (as if it was not there) or
            'refuse'.
        begin: Text before the content.
        end: Text after it.
        content: What is done to the content.
        think: The reasoning marks that are taken out of the content.
        cases: What differs where.
        api_role: The role's name for servers that apply their own template.
        fallback_role: Another role whose entry holds instead.
        generate: The last message, if it is this role's, is left open for the model to go on.
    """

    word: str = ""
    begin: str | Text | Begin = ""
    end: str | Text = ""
    content: Operation | None = None
    think: Thinking | None = None
    cases: tuple[Case, ...] = ()
    api_role: str = ""
    fallback_role: str = ""
    generate: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """What happens to system messages before the turns are written.

    Attributes:
        take: Which leave the dialog: 'first' (a message that opens it), 'all' (joined) or 'last' (of all).
        begin: Text before the system text.
        end: Text after it.
        default: System text of a dialog without one.
        default_unless: The default is not used when the dialog opens with a system message ('first'), or when
            there is one anywhere ('any').
        content: What is done to the content.
        empty: An empty text is written ('keep'), left out ('drop') or takes the default ('default').
        join: Between several.
        put: 'start' of the prompt, or the 'first' / 'last' turn, 'first_user' / 'last_user' turn.
        at: Of that turn: 'before' its begin, 'inside' (after the begin), 'content' (part of its content, with
            everything that is done to it).
        required: A dialog without a system message is refused.
    """

    take: str
    begin: str | Text
    end: str | Text
    default: str | Text | None
    default_unless: str
    content: Operation | None
    empty: str
    join: str
    put: str
    at: str
    required: bool


@dataclass(frozen=True, slots=True)
class Alternation:
    """Turns 0, 2, 4 … must be the user's and the others must not; roles in `skip` do not count."""

    skip: frozenset[str]


@dataclass(frozen=True, slots=True)
class Query:
    """Which message is a question: one of `role`, unless it is wrapped in `begin` … `end`."""

    role: str
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text around the turns.

    Attributes:
        begin: Before the first turn.
        end: After the last one, without a generation prompt.
        generation: After the last one, with it.
        cases: What differs where.
    """

    begin: str | Text = ""
    end: str | Text = ""
    generation: str | Text = ""
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A model family's format, validated.

    Attributes:
        name: Its name.
        where: The file (or other place) it came from, as errors name it.
        aliases: Other names of it.
        bos: The text of the BOS token, '' when it has none.
        eos: The text of the EOS token.
        bos_by: Who puts the BOS token before the prompt: 'text' (the template), 'server' (the tokenizer) or
            'none'.
        stop_words: Where an answer ends.
        special_tokens: Marks that a user's text must not hold, for the look-alike guard.
        options: Keywords of a rendering and their defaults.
        system: What is done to system messages, None when they are turns like others.
        alternation: The order that is enforced, None when it is free.
        query: What counts as a question for `after_query`.
        prompt: Text around the turns.
        roles: The roles that have an entry.
        others: The entry of all other roles.
        tools: How tool descriptions are written, None when the family has no place for them.
        tool_call: How the model writes a tool call, None when it has no form for it.
    """

    name: str
    where: str
    aliases: tuple[str, ...] = ()
    bos: str = ""
    eos: str = ""
    bos_by: str = "none"
    stop_words: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    system: System | None = None
    alternation: Alternation | None = None
    query: Query = Query("user", "", "")
    prompt: Prompt = Prompt()
    roles: Mapping[str, Role] = field(default_factory=dict)
    others: Role = Role(word="refuse")
    tools: ToolsForm | ToolsMessage | None = None
    tool_call: ToolCallForm | None = None
