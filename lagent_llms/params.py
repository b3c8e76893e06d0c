"""What a caller may ask of one generation: names, types, ranges and neutral values, in one table.

`GenerationParams` steers the decoder, `CallOptions` the call around it. Both are immutable: a per-call value
makes a new object and never changes the backend's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from . import validators
from .errors import InvalidArgument, UnknownParameter, UnsupportedParameter, nearest
from .validators import Check, flag, integer, number, optional

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ALIASES", "CallKwargs", "CallOptions", "GenerationParams", "Timeout", "unhonoured"]

#: Values a server takes by name.
PlainValues: TypeAlias = Mapping[str, bool | int | float | str]


def _timeout(name: str, value: Any) -> Timeout:
    if isinstance(value, Timeout):
        return value
    seconds = number("a number of seconds above 0, or a Timeout", 0, above=True)(name, value)
    return Timeout(first_token=seconds, idle=seconds)


def _param(check: Check, default: Any, *, neutral: Any = None, rare: bool = False) -> Any:
    """A field of a parameter table.

    `neutral` is the value that asks for nothing of a backend; one that is `rare` is honoured only by backends
    that say so.
    """
    return field(default=default, metadata={"check": check, "neutral": neutral, "rare": rare})


@dataclass(frozen=True)
class Timeout:
    """The longest waits of one call, in seconds; None waits for ever.

    A plain number given as ``timeout`` is both `first_token` and `idle`: the longest wait for the next piece
    of the answer (seed 003: 30 s). A keep-alive comment is no piece of the answer.

    Attributes:
        connect: For a connection to the server.
        first_token: From the request to the first piece of the answer (long prompts, reasoning models).
        idle: Between two pieces of the answer.
        total: For the whole answer.
    """

    connect: float | None = 5.0
    first_token: float | None = 30.0
    idle: float | None = 30.0
    total: float | None = None

    def __post_init__(self) -> None:
        check = optional(number("None or a number of seconds above 0", 0, above=True))
        for item in fields(self):
            check(f"Timeout.{item.name}", getattr(self, item.name))


@dataclass(frozen=True)
class _Table:
    """Validated, immutable fields; the base of both tables below."""

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, item.metadata["check"](item.name, getattr(self, item.name)))
        self._check_together()

    @classmethod
    @cache
    def names(cls) -> frozenset[str]:
        """The parameter names of this table."""
        return frozenset(item.name for item in fields(cls))

    @classmethod
    def rare_names(cls) -> frozenset[str]:
        """Those that only a backend that says so honours."""
        return frozenset(item.name for item in fields(cls) if item.metadata["rare"])

    def changed(self, values: Mapping[str, Any]) -> Self:
        """This table with `values` in it; only these are checked, the others have been.

        Raises:
            InvalidArgument: A value of the wrong type or out of range.
        """
        if not values:
            return self
        new = object.__new__(type(self))
        checks = type(self).__dataclass_fields__
        checked = {name: checks[name].metadata["check"](name, value) for name, value in values.items()}
        vars(new).update(vars(self), **checked)
        new._check_together()
        return new

    def _check_together(self) -> None:
        """Refuse values that exclude each other."""


@dataclass(frozen=True)
class GenerationParams(_Table):
    """How to decode. Defaults are lagent's; every value can be given at construction and per call.

    Attributes:
        max_new_tokens: Most tokens to generate, the prompt not counted. 1 or more.
        top_p: Keep the smallest set of most probable tokens whose probabilities add up to this. (0, 1].
        top_k: Keep this many most probable tokens; None is no filter.
        temperature: Randomness; 0 is greedy on every backend.
        repetition_penalty: Divides the logits of tokens seen in prompt and answer; 1.0 is no penalty.
        stop_words: Strings that end the answer and are not part of it. None takes the template's own.
        seed: Makes sampling repeatable; None draws a new one.
        min_p: Drop tokens less probable than this times the most probable one. [0, 1].
        ignore_eos: Go on after the end-of-sequence token.
        skip_special_tokens: Leave special tokens out of the text. False, so that tool calls survive.
        logprobs: None for none; n for the log-probability of each token and its n best alternatives
            (True is 0 alternatives).
        response_format: A constraint in the form of OpenAI's response_format.
    """

    max_new_tokens: int = _param(integer("an integer of 1 or more (tokens)", 1), 512)
    top_p: float = _param(number("a number above 0 and at most 1", 0, 1, above=True), 0.8, neutral=1)
    top_k: int | None = _param(optional(integer("None or an integer of 1 or more", 1)), 40)
    temperature: float = _param(number("a number of 0 or more", 0), 0.8, neutral=1)
    repetition_penalty: float = _param(number("a number above 0", 0, above=True), 1.0, neutral=1)
    stop_words: tuple[str, ...] | None = _param(validators.stop_words, None)
    seed: int | None = _param(optional(integer("None or an integer from 0 to 2**63-1", 0, 2**63 - 1)), None)
    min_p: float | None = _param(optional(number("None or a number from 0 to 1", 0, 1)), None, neutral=0)
    ignore_eos: bool = _param(flag, False, neutral=False)
    skip_special_tokens: bool = _param(flag, False, neutral=False)
    logprobs: int | None = _param(validators.logprobs, None)
    response_format: Mapping[str, Any] | None = _param(validators.response_format, None)


@dataclass(frozen=True)
class CallOptions(_Table):
    """The call around one generation.

    Attributes:
        session_id: Which session; only looked at when the call is part of one (seed 003: 2967).
        request_id: The caller's name for this call; passed to servers that take one.
        sequence_start: This call starts a sequence. With `sequence_end` (the default) it is stateless.
        sequence_end: This call ends the sequence; False keeps the session open after the answer.
        timeout: Longest wait for the next piece of the answer in seconds, or a `Timeout`.
        on_error: 'raise', or 'status': a stream ends with (negative status, text so far, tokens).
        stream: False asks for the answer in one piece where a server can give it so.
        adapter_name: The LoRA adapter to answer with; None is the base model. `adapter_id`, LoRAX's word, is
            the same.
        adapter_source: Where the server gets the adapter from; None is its default (LoRAX).
        merged_adapters: Several adapters merged into one, in place of adapter_name (LoRAX).
        tools: Tool descriptions for a chat template that takes them (OpenAI's form).
        tool_choice: Which tool to call, for servers that take it.
        do_preprocess: True makes a bare prompt a user message, to which the template is applied (lmdeploy's
            word); False takes it as it is.
        priority: Priority in the server's queue, lower is sooner (Triton's order); None is the server's.
        parameters: Further parameters of the request, passed to a server that takes any (Triton).
    """

    session_id: int = _param(validators.session_id, 2967)
    request_id: str = _param(validators.request_id, "")
    sequence_start: bool = _param(flag, True)
    sequence_end: bool = _param(flag, True)
    timeout: Timeout = _param(_timeout, Timeout())
    on_error: Literal["raise", "status"] = _param(validators.on_error, "raise")
    stream: bool = _param(flag, True, neutral=True)
    adapter_name: str | None = _param(validators.optional_name, None)
    adapter_source: str | None = _param(validators.optional_name, None, rare=True)
    merged_adapters: Any = _param(validators.merged_adapters, None, rare=True)
    tools: list[dict[str, Any]] | None = _param(validators.tools, None)
    tool_choice: Any = _param(lambda name, value: value, None)
    do_preprocess: bool = _param(flag, False, neutral=False)
    priority: int | None = _param(validators.priority, None, rare=True)
    parameters: Mapping[str, bool | int | float | str] | None = _param(
        validators.wire_parameters, None, rare=True
    )

    def _check_together(self) -> None:
        if self.adapter_name is not None and self.merged_adapters is not None:
            raise InvalidArgument(
                "adapter_id (or adapter_name) and merged_adapters: only one of them can be given",
                argument="merged_adapters",
            )

    @property
    def stateless(self) -> bool:
        """Whether the call belongs to no session."""
        return self.sequence_start and self.sequence_end


class CallKwargs(TypedDict, total=False):
    """The keywords of every call, for type checkers; the tables above tell what they mean."""

    max_new_tokens: int | None
    top_p: float | None
    top_k: int | None
    temperature: float | None
    repetition_penalty: float | None
    stop_words: str | Sequence[str] | None
    seed: int | None
    min_p: float | None
    ignore_eos: bool
    skip_special_tokens: bool
    logprobs: bool | int | None
    response_format: Mapping[str, Any] | None
    session_id: int
    request_id: str
    sequence_start: bool
    sequence_end: bool
    timeout: float | Timeout | None
    on_error: Literal["raise", "status"]
    stream: bool
    adapter_name: str | Sequence[str | None] | None
    adapter_id: str | Sequence[str | None] | None
    adapter_source: str | Sequence[str | None] | None
    merged_adapters: Any
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: Any
    do_preprocess: bool | None
    priority: int | None
    parameters: PlainValues | None


#: Other words for parameters.
ALIASES = {"adapter_id": "adapter_name"}


def _plain_names(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """`given` without other words for parameters."""
    plain = dict(given)
    for alias, name in ALIASES.items():
        if alias in plain:
            value = plain.pop(alias)
            if plain.setdefault(name, value) != value:
                raise InvalidArgument(
                    f"{alias} and {name} are the same; only one can be given", argument=alias
                )
    return plain


def _one_adapter(changed: dict[str, Any]) -> None:
    """An adapter that is asked for takes the place of merged ones that were the default, and the reverse."""
    for name, other in (("adapter_name", "merged_adapters"), ("merged_adapters", "adapter_name")):
        if changed.get(name) is not None:
            changed.setdefault(other, None)


def _is_neutral(table: type[_Table], name: str, value: object) -> bool:
    neutral = table.__dataclass_fields__[name].metadata["neutral"]
    return value is None or value == neutral


def unhonoured(unsupported: Iterable[str], rare: Iterable[str] = ()) -> frozenset[str]:
    """Everything a backend cannot honour: what it names, and rare parameters that it does not name."""
    rarities = GenerationParams.rare_names() | CallOptions.rare_names()
    refused = frozenset(unsupported) | (rarities - frozenset(rare))
    return refused | {alias for alias, name in ALIASES.items() if name in refused}


class ParameterSet:
    """What one backend class understands, and the merging of per-call values into its defaults.

    Args:
        backend: Class name, for messages.
        unsupported: Names of the tables that this backend cannot honour.

    Attributes:
        known: Every name of both tables.
    """

    def __init__(self, backend: str, unsupported: Iterable[str] = ()) -> None:
        self.backend = backend
        self.unsupported = frozenset(unsupported)
        self.known = GenerationParams.names() | CallOptions.names() | frozenset(ALIASES)
        if stray := self.unsupported - self.known:
            raise ValueError(f"{backend}: not parameters: {sorted(stray)}")

    def merge(
        self, params: GenerationParams, options: CallOptions, given: Mapping[str, Any]
    ) -> tuple[GenerationParams, CallOptions]:
        """New tables with the `given` values over the defaults.

        None means "the default" except where None is itself a value (top_k, stop_words, seed …).

        Raises:
            UnknownParameter: A name that no backend knows.
            UnsupportedParameter: A name this backend cannot honour, with a value that asks for something.
            InvalidArgument: A value of the wrong type or out of range.
        """
        changed: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name, value in _plain_names(given).items():
            if name not in self.known:
                raise UnknownParameter(
                    f"unknown parameter {name!r}{nearest(name, self.known)}; "
                    f"known are {', '.join(sorted(self.known - self.unsupported))}"
                )
            table = GenerationParams if name in GenerationParams.names() else CallOptions
            if name in self.unsupported and not _is_neutral(table, name, value):
                raise UnsupportedParameter(
                    f"{self.backend} cannot honour {name}={value!r}", parameter=name, backend=self.backend
                )
            default = table.__dataclass_fields__[name].default
            if value is None and default is not None and name not in ("top_k",):
                continue
            changed[table is CallOptions][name] = value
        _one_adapter(changed[1])
        return params.changed(changed[0]), options.changed(changed[1])
