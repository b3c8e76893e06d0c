"""Types for a validated family file.

`docs/meta_templates.md` documents the format. `validate` converts a file to a `Family`, `render` compiles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .answers.formats import AnswerMarks
from .placeholders import Operation, PlaceholderText
from .tools import ToolCallFormat, ToolsInSystemText, ToolsMessage

__all__ = ["Alternation", "Begin", "Case", "Family", "Prompt", "Query", "Role", "System", "Thinking", "When"]

#: Role in the conditions `previous`, `next`, `first_turn` … if there is no such turn.
NONE = "none"
#: Name of the entry for all roles without an entry of their own.
OTHERS = "*"


@dataclass(frozen=True, slots=True)
class When:
    """Conditions, as (name, expected value), that must all be true."""

    conditions: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Overrides that apply if `when` is true. Later cases override earlier ones.

    Attributes:
        when: The conditions.
        texts: Overridden texts by key ('begin', 'end', 'generation').
        content: Overridden operation on the content, if `has_content`.
        has_content: True if `content` is overridden.
        drop: Render the turn to nothing.
        refuse: Reason for rejecting the dialog, '' to allow it.
    """

    when: When
    texts: Mapping[str, str | PlaceholderText]
    content: Operation | None = None
    has_content: bool = False
    drop: bool = False
    refuse: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """Text before the content of a role whose messages can have a name, as in lagent.

    Attributes:
        with_name: Text for a message with a name; holds {name}.
        without_name: Text for a message without a name.
        names: Name to its spelling in the text, for names that are spelled differently.
    """

    with_name: str | PlaceholderText
    without_name: str | PlaceholderText
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Thinking:
    """Marks around the reasoning in an answer."""

    open: str
    close: str


@dataclass(frozen=True, slots=True)
class Role:
    """Format of the messages of one role.

    Attributes:
        word: '', 'drop' (render to nothing, but count as a turn), 'remove' (ignore the message) or 'refuse'
            (reject the dialog).
        begin: Text before the content.
        end: Text after the content.
        content: Operation on the content; None leaves it unchanged.
        think: Marks of the reasoning to remove from the content.
        cases: Conditional overrides.
        api_role: Name of the role for servers that apply their own template.
        fallback_role: Role whose entry applies instead.
        generate: Leave a last message of this role open, so that the model continues it.
    """

    word: str = ""
    begin: str | PlaceholderText | Begin = ""
    end: str | PlaceholderText = ""
    content: Operation | None = None
    think: Thinking | None = None
    cases: tuple[Case, ...] = ()
    api_role: str = ""
    fallback_role: str = ""
    generate: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """How system messages become the system text, and where it goes.

    Attributes:
        take: Messages that form the system text: 'first' (if the dialog opens with a system message), 'all'
            (joined) or 'last'.
        begin: Text before the system text.
        end: Text after the system text.
        default: System text of a dialog without one.
        default_unless: Do not use the default if the dialog opens with a system message ('first'), or has one
            anywhere ('any').
        content: Operation on the content.
        empty: What to do with an empty text: 'keep' it, 'drop' it, or use the 'default'.
        join: Separator between several messages.
        put: Position: 'start' of the prompt, or the 'first' / 'last' / 'first_user' / 'last_user' turn.
        at: Position within that turn: 'before' its begin, 'inside' (after its begin), or 'content' (part of
            its content, subject to the same operations).
        required: Reject a dialog without a system message.
    """

    take: str
    begin: str | PlaceholderText
    end: str | PlaceholderText
    default: str | PlaceholderText | None
    default_unless: str
    content: Operation | None
    empty: str
    join: str
    put: str
    at: str
    required: bool


@dataclass(frozen=True, slots=True)
class Alternation:
    """Turns 0, 2, 4 … must be of the user, the others must not. Roles in `skip` do not count."""

    skip: frozenset[str]


@dataclass(frozen=True, slots=True)
class Query:
    """Definition of a question: a message of `role` whose content is not wrapped in `begin` … `end`."""

    role: str
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text before and after the turns.

    Attributes:
        begin: Text before the first turn.
        end: Text after the last turn, without a generation prompt.
        generation: Generation prompt.
        cases: Conditional overrides.
    """

    begin: str | PlaceholderText = ""
    end: str | PlaceholderText = ""
    generation: str | PlaceholderText = ""
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Validated format of a model family.

    Attributes:
        name: Name of the family.
        where: File (or other origin) of the family, for errors.
        aliases: Other names of the family.
        bos: Text of the BOS token, '' if it has none.
        eos: Text of the EOS token.
        bos_by: What adds the BOS: 'text' (the template), 'server' (the tokenizer) or 'none'.
        stop_words: Texts at which an answer ends.
        special_tokens: Special tokens of the format, which a user's text should not hold.
        options: Options of `render` and their defaults.
        system: Handling of system messages; None treats them as turns.
        alternation: Required order of the turns; None allows any.
        query: Definition of a question, for the condition `after_query`.
        prompt: Text before and after the turns.
        roles: Format of each role with an entry of its own.
        others: Format of all other roles.
        tools: Format of tool descriptions, None if the family does not support tools.
        tool_call: Format of the model's tool calls, None if unknown.
        answers: What the model writes into its answers.
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
    tools: ToolsInSystemText | ToolsMessage | None = None
    tool_call: ToolCallFormat | None = None
    answers: AnswerMarks = AnswerMarks()
