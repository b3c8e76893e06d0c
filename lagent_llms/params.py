"""The one table of parameters: a row for each, with type, default, check, no-op value and wire name.

`GenerationParams` steers the decoder, `CallOptions` the call around it. Both are immutable: a per-call value
makes a new object and never changes the backend's own. `PARAMETERS` has every row by name; whatever else
lists parameters derives from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, TypedDict

from . import extra_fields, validators
from .errors import InvalidArgument
from .retry import RetryPolicy
from .structured.formats import response_format
from .timeout import Timeout, check_timeout
from .tools.definitions import tool_definitions
from .validators import Check, flag, integer, number, optional

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from .store.cache import AnswerCache
    from .store.journal import Journal

__all__ = [
    "ALIASES",
    "PARAMETERS",
    "BackendKwargs",
    "CallKwargs",
    "CallOptions",
    "GenerationParams",
    "Parameter",
    "Timeout",
]

#: Further request fields that a server takes by name.
PlainValues: TypeAlias = Mapping[str, bool | int | float | str]


_penalty = optional(number("None or a number from -2 to 2", -2, 2))


_most_probable = optional(integer("None, an integer of 1 or more, or 0 or -1 (no filter)", 1))


def _top_k(name: str, value: Any) -> int | None:
    value = validators.to_builtin(value)
    checked: int | None = None if type(value) is int and value in (0, -1) else _most_probable(name, value)
    return checked


def _row(check: Check, default: Any, **columns: Any) -> Any:
    """A row of the table; see `Parameter` for its columns. Name and type are those of the dataclass field."""
    return field(default=default, metadata={"check": check, **columns})


@dataclass(frozen=True)
class _Table:
    """Validated, immutable fields; the base of both tables below.

    Attributes:
        given: The fields that `changed` has set; the others hold their defaults.
    """

    given: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, item.metadata["check"](item.name, getattr(self, item.name)))
        self._check_together()

    def changed(self, values: Mapping[str, Any]) -> Self:
        """A copy with `values` in it; only these are checked.

        Raises:
            InvalidArgument: A value of the wrong type or out of range.
        """
        if not values:
            return self
        new = object.__new__(type(self))
        checks = type(self).__dataclass_fields__
        checked = {name: checks[name].metadata["check"](name, value) for name, value in values.items()}
        vars(new).update(vars(self), **checked, given=self.given.union(checked))
        new._check_together()
        return new

    def as_default(self, name: str) -> Self:
        """A copy in which the value of a field counts as a default that was not given."""
        new = object.__new__(type(self))
        vars(new).update(vars(self), given=self.given - {name})
        return new

    def _check_together(self) -> None:
        """Refuse values that exclude each other."""


@dataclass(frozen=True)
class GenerationParams(_Table):
    """How to decode. Defaults are lagent's; every value can be given at construction and per call.

    Attributes:
        max_new_tokens: Most tokens to generate, the prompt not counted. 1 or more. OpenAI's `max_tokens` and
            `max_completion_tokens` are the same.
        top_p: Keep the smallest set of most probable tokens whose probabilities add up to this. (0, 1].
        top_k: Keep this many most probable tokens; None, or 0 or -1 as in other libraries, is no filter.
        temperature: Randomness; 0 is greedy on every backend.
        repetition_penalty: Divides the logits of tokens seen in prompt and answer; 1.0 is no penalty.
        stop_words: Strings that end the answer and are not part of it. None takes the template's own.
            OpenAI's `stop` is the same.
        seed: Makes sampling repeatable; None draws a new one.
        min_p: Drop tokens less probable than this times the most probable one. [0, 1].
        ignore_eos: Go on after the end-of-sequence token.
        skip_special_tokens: Leave special tokens out of the text. False, so that tool calls survive.
        frequency_penalty: Lowers the logit of a token by this for each time it is in the answer. [-2, 2].
        presence_penalty: Lowers the logit of a token that is in the answer, once. [-2, 2].
        min_new_tokens: The answer has no end token before this many tokens.
        logit_bias: Token ids and what is added to their logits, from -100 (never) to 100.
        logprobs: None for none; n for the log-probability of each token and its n best alternatives
            (True is 0 alternatives).
        response_format: A constraint on the text: a dict in OpenAI's form, a JSON schema, a type (pydantic
            model, msgspec Struct, dataclass, TypedDict, Enum, Literal), a compiled regular expression, or a
            list of texts.
    """

    max_new_tokens: int = _row(
        integer("an integer of 1 or more (tokens)", 1),
        512,
        wire="max_tokens",
        aliases=("max_tokens", "max_completion_tokens"),
    )
    top_p: float = _row(
        number("a number above 0 and at most 1", 0, 1, above=True), 0.8, no_op=1, wire="top_p"
    )
    top_k: int | None = _row(_top_k, 40, wire="top_k")
    temperature: float = _row(number("a number of 0 or more", 0), 0.8, no_op=1, wire="temperature")
    repetition_penalty: float = _row(
        number("a number above 0", 0, above=True), 1.0, no_op=1, wire="repetition_penalty"
    )
    stop_words: tuple[str, ...] | None = _row(validators.stop_words, None, aliases=("stop",))
    seed: int | None = _row(
        optional(integer("None or an integer from 0 to 2**63-1", 0, 2**63 - 1)), None, wire="seed"
    )
    min_p: float | None = _row(
        optional(number("None or a number from 0 to 1", 0, 1)), None, no_op=0, wire="min_p"
    )
    ignore_eos: bool = _row(flag, False, no_op=False, wire="ignore_eos")
    skip_special_tokens: bool = _row(flag, False, no_op=False, wire="skip_special_tokens")
    frequency_penalty: float | None = _row(_penalty, None, no_op=0, opt_in=True, wire="frequency_penalty")
    presence_penalty: float | None = _row(_penalty, None, no_op=0, opt_in=True, wire="presence_penalty")
    min_new_tokens: int | None = _row(
        optional(integer("None or an integer of 0 or more (tokens)", 0)), None,
        no_op=0, opt_in=True, wire="min_tokens",
    )  # fmt: skip
    logit_bias: Mapping[int, float] | None = _row(
        extra_fields.logit_bias, None, no_op={}, opt_in=True, wire="logit_bias"
    )
    logprobs: int | None = _row(validators.logprobs, None)
    response_format: Mapping[str, Any] | None = _row(response_format, None, no_op={"type": "text"})

    def _check_together(self) -> None:
        least = self.min_new_tokens
        if least is not None and "max_new_tokens" in self.given and least > self.max_new_tokens:
            raise InvalidArgument(
                f"min_new_tokens={least} is more than max_new_tokens={self.max_new_tokens}",
                argument="min_new_tokens",
            )


@dataclass(frozen=True)
class CallOptions(_Table):
    """The call around one generation.

    Attributes:
        session_id: Which session; only looked at when the call is part of one (seed 003: 2967).
        request_id: The caller's name for this call; passed to servers that take one.
        sequence_start: This call starts a sequence. With `sequence_end` (the default) it is stateless.
        sequence_end: This call ends the sequence; False keeps the session open after the answer.
        timeout: Longest wait for the next piece of the answer in seconds, or a `Timeout`.
        retry: Which failures are retried and how often, as a `RetryPolicy`, a mapping of its fields, or the
            number of retries.
        max_per_second: Most requests that a batch sends in a second, retries included; None sets no limit. A
            call of one prompt is not limited. `query_per_second`, lagent's word, is the same.
        on_error: 'raise', or 'status': a stream ends with (negative status, text so far, tokens).
        stream: False asks for the answer in one piece where a server can give it so.
        sampling: Whose defaults hold for a parameter of `GenerationParams` that was not given: 'client' sends
            those of this table, 'server' sends none, so that the server's or the model's own apply.
        n: How many answers `complete` gives to each input, in `Completion.choices`. Other methods, and
            sessions, take 1 only.
        adapter_name: The LoRA adapter to answer with; None is the base model. `adapter_id`, LoRAX's word, is
            the same.
        adapter_source: Where the server gets the adapter from; None is its default (LoRAX).
        merged_adapters: Several adapters merged into one, in place of adapter_name (LoRAX).
        tools: What the model may call: functions with type hints, or descriptions in OpenAI's form.
        tool_parser: How tool calls are found in the text of an answer to messages: 'auto' (as the template's
            model writes them), a parser's name, or None (not at all).
        reasoning: How reasoning is split off an answer to messages: 'auto' (by the tags of the template's
            model), a pair of tags (``("<think>", "</think>")``), or None or 'none' (not at all).
        reasoning_effort: How much a reasoning model thinks ('low', 'medium', 'high' …), for servers that take
            it with messages.
        tool_choice: Which tool to call, for servers that take it.
        do_preprocess: True makes a bare prompt a user message, to which the template is applied (lmdeploy's
            word); False takes it as it is.
        injection: What becomes of special tokens in texts of messages and tools, except what an assistant has
            said: 'allow' leaves them, 'escape' makes them plain text, 'refuse' raises TemplateError.
        chat_template_kwargs: Variables of the chat template (``{"enable_thinking": False}``, ``documents``);
            the keys of a call replace those of the constructor. Bare prompts have no template.
        continue_final_message: Leave the last message, the assistant's, open, so that the model continues it;
            the answer is what follows. In a session both become one message.
        priority: Priority in the server's queue, lower is sooner (Triton's order); None is the server's.
        parameters: Further parameters of the request, passed to a server that takes any (Triton).
        extra_body: Further fields of the request's body (HTTP), merged last; objects are merged key by key.
            The keys of a call replace those of the constructor. A field that the request has is refused.
        extra_inputs: The same for the input tensors of a Triton model: a value, or a list of values.
    """

    session_id: int = _row(validators.session_id, 2967, per_input=True, changes_answer=False)
    request_id: str = _row(validators.request_id, "", changes_answer=False)
    sequence_start: bool = _row(flag, True, changes_answer=False)
    sequence_end: bool = _row(flag, True, changes_answer=False)
    timeout: Timeout = _row(check_timeout, Timeout(), changes_answer=False)
    retry: RetryPolicy = _row(RetryPolicy.of, RetryPolicy(), changes_answer=False)
    max_per_second: float | None = _row(
        optional(number("None or a number above 0 (requests per second)", 0, above=True)),
        None,
        aliases=("query_per_second",),
        changes_answer=False,
    )
    on_error: Literal["raise", "status"] = _row(validators.on_error, "raise", changes_answer=False)
    stream: bool = _row(flag, True, no_op=True, changes_answer=False)
    sampling: Literal["client", "server"] = _row(validators.sampling, "client", no_op="client", opt_in=True)
    n: int = _row(integer("an integer from 1 to 128", 1, 128), 1, no_op=1, changes_answer=False)
    adapter_name: str | None = _row(validators.optional_name, None, aliases=("adapter_id",), per_input=True)
    adapter_source: str | None = _row(validators.optional_name, None, opt_in=True, per_input=True)
    merged_adapters: Any = _row(validators.merged_adapters, None, opt_in=True, per_input=True)
    tools: list[dict[str, Any]] | None = _row(tool_definitions, None)
    reasoning_effort: str | None = _row(validators.optional_name, None, opt_in=True)
    tool_choice: Any = _row(validators.plain, None)
    tool_parser: str | None = _row(validators.tool_parser, "auto")
    reasoning: str | tuple[str, str] | None = _row(validators.reasoning, "auto")
    do_preprocess: bool = _row(flag, False, no_op=False, changes_answer=False)
    injection: Literal["allow", "escape", "refuse"] = _row(validators.injection, "allow", no_op="allow")
    chat_template_kwargs: Mapping[str, Any] | None = _row(
        validators.chat_template_kwargs, None, no_op={}, merged=True
    )
    continue_final_message: bool = _row(flag, False, no_op=False)
    priority: int | None = _row(validators.priority, None, opt_in=True, changes_answer=False)
    parameters: Mapping[str, bool | int | float | str] | None = _row(
        validators.wire_parameters, None, opt_in=True
    )
    extra_body: Mapping[str, Any] | None = _row(
        extra_fields.extra_body, None, no_op={}, merged=True, opt_in=True
    )
    extra_inputs: Mapping[str, Any] | None = _row(
        extra_fields.extra_inputs, None, no_op={}, merged=True, opt_in=True
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


class Parameter(NamedTuple):
    """One row of the table.

    Attributes:
        name: The keyword.
        table: `GenerationParams` or `CallOptions`.
        type: The annotation of the checked value.
        default: The value where none is given.
        check: Makes the checked value, or refuses it.
        no_op: A value that changes nothing, accepted even where the parameter is unsupported; so is None.
        opt_in: Unsupported by every backend that does not name it in `opt_in_parameters`.
        wire: The field that carries it unchanged in an OpenAI-style request, '' where there is none.
        aliases: Other keywords for it.
        per_input: A batch may have a list of values, one for each input.
        merged: A dict whose keys are added to those of the default.
        changes_answer: False for a parameter with which the answer is the same as without.
    """

    name: str
    table: type[GenerationParams] | type[CallOptions]
    type: str
    default: Any
    check: Check
    no_op: Any = None
    opt_in: bool = False
    wire: str = ""
    aliases: tuple[str, ...] = ()
    per_input: bool = False
    merged: bool = False
    changes_answer: bool = True

    def is_no_op(self, value: object) -> bool:
        """Whether `value` changes nothing."""
        return value is None or validators.to_builtin(value) == self.no_op

    def means_default(self, value: object) -> bool:
        """Whether `value` is None and None is no value of this parameter."""
        return value is None and self.default is not None and "None" not in self.type


def _rows(table: type[GenerationParams] | type[CallOptions]) -> dict[str, Parameter]:
    return {
        item.name: Parameter(item.name, table, str(item.type), item.default, **item.metadata)
        for item in fields(table)
    }


#: Every parameter by its name.
PARAMETERS: Mapping[str, Parameter] = {**_rows(GenerationParams), **_rows(CallOptions)}

#: Other keywords, and the parameters they mean.
ALIASES: Mapping[str, str] = {alias: row.name for row in PARAMETERS.values() for alias in row.aliases}

#: Keywords that set a parameter to a value: ``do_sample=False`` (transformers, lagent) is ``temperature=0``.
SWITCHES = frozenset({"do_sample"})


class CallKwargs(TypedDict, total=False):
    """The keywords of every call, for type checkers; a test holds it equal to the table."""

    max_new_tokens: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    top_p: float | None
    top_k: int | None
    temperature: float | None
    do_sample: bool | None
    repetition_penalty: float | None
    stop_words: str | Sequence[str] | None
    stop: str | Sequence[str] | None
    seed: int | None
    min_p: float | None
    ignore_eos: bool
    skip_special_tokens: bool
    frequency_penalty: float | None
    presence_penalty: float | None
    min_new_tokens: int | None
    logit_bias: Mapping[int, float] | Mapping[str, float] | None
    logprobs: bool | int | None
    response_format: Mapping[str, Any] | re.Pattern[str] | Sequence[str] | type[Any] | None
    session_id: int
    request_id: str
    sequence_start: bool
    sequence_end: bool
    timeout: float | Timeout | Mapping[str, float | None] | None
    retry: RetryPolicy | Mapping[str, Any] | int | None
    max_per_second: float | None
    query_per_second: float | None
    on_error: Literal["raise", "status"]
    stream: bool
    sampling: Literal["client", "server"] | None
    n: int | None
    adapter_name: str | Sequence[str | None] | None
    adapter_id: str | Sequence[str | None] | None
    adapter_source: str | Sequence[str | None] | None
    merged_adapters: Any
    tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None
    reasoning_effort: str | None
    tool_choice: Any
    tool_parser: str | None
    reasoning: str | Sequence[str] | None
    do_preprocess: bool | None
    injection: Literal["allow", "escape", "refuse"] | None
    chat_template_kwargs: Mapping[str, Any] | None
    continue_final_message: bool
    priority: int | None
    parameters: PlainValues | None
    extra_body: Mapping[str, Any] | None
    extra_inputs: Mapping[str, Any] | None


class BackendKwargs(CallKwargs, total=False):
    """The keywords of every constructor beside those it names, for type checkers; see `LLMCore`."""

    cache: str | os.PathLike[str] | Mapping[str, Any] | AnswerCache | None
    journal: str | os.PathLike[str] | Mapping[str, Any] | Journal | None
