"""`parse`: an answer as an instance of a type; one generator decides, the two base classes call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from .. import validators
from ..errors import InvalidArgument, InvalidOutput, UnsupportedParameter
from ..schema import Completion, Message
from .llm import LLMCore, as_dialog
from .request import Input

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..params import CallKwargs

__all__ = ["AsyncParsingLLM", "ParsingLLM"]

_T = TypeVar("_T")
#: Yields the input and the keywords of a call, is sent its answer, returns the instance.
_Steps: TypeAlias = Generator[tuple[Input, dict[str, Any]], Completion, Any]

_repairs = validators.integer("an integer of 0 or more", 0)


class ParsingLLM(LLMCore):
    """`parse` of `BaseLLM`."""

    @abstractmethod
    def _complete(self, inputs: Input, given: Any) -> Completion:
        """The answer to one input."""

    @overload
    def parse(
        self,
        inputs: str | Sequence[Message],
        type: type[_T],
        *,
        repair: int = ...,
        constrain: bool = ...,
        **kwargs: Unpack[CallKwargs],
    ) -> _T: ...
    @overload
    def parse(
        self,
        inputs: str | Sequence[Message],
        type: Any,
        *,
        repair: int = ...,
        constrain: bool = ...,
        **kwargs: Unpack[CallKwargs],
    ) -> Any: ...
    def parse(
        self,
        inputs: str | Sequence[Message],
        type: Any,
        *,
        repair: int = 0,
        constrain: bool = True,
        **kwargs: Unpack[CallKwargs],
    ) -> Any:
        """Answer a dialog with an instance of a type.

        The backend constrains the answer to the type's JSON schema (`response_format`); the messages are sent
        as they are, so they should say what is wanted. The answer is validated in any case.

        Args:
            inputs: Messages; a string is a user message.
            type: A pydantic model, msgspec Struct, dataclass or TypedDict, or another type such as ``int``,
                ``list[str]``, an Enum or a Literal.
            repair: Most further calls after an invalid answer: the answer and what is wrong with it are
                added to the dialog.
            constrain: False sends no `response_format`, for backends that cannot honour it: the last user
                message asks for JSON with the schema.
            **kwargs: As for `chat`, except `response_format`.

        Returns:
            An instance of `type`.

        Raises:
            UnsupportedParameter: The backend cannot constrain answers to the schema, and `constrain` is True.
            InvalidOutput: The answer is invalid, after `repair` calls, or was cut by its limit; carries the
                completion.
            LLMError: As for `chat`.
        """
        steps = _parsing(self, inputs, type, repair, constrain, kwargs)
        call = next(steps)
        while True:
            try:
                completion = self._complete(*call)
            except UnsupportedParameter as error:
                raise _explained(error) from None
            try:
                call = steps.send(completion)
            except StopIteration as end:
                return end.value


class AsyncParsingLLM(LLMCore):
    """`parse` of `AsyncBaseLLM`."""

    @abstractmethod
    async def _complete(self, inputs: Input, given: Any) -> Completion:
        """The answer to one input."""

    @overload
    async def parse(
        self,
        inputs: str | Sequence[Message],
        type: type[_T],
        *,
        repair: int = ...,
        constrain: bool = ...,
        **kwargs: Unpack[CallKwargs],
    ) -> _T: ...
    @overload
    async def parse(
        self,
        inputs: str | Sequence[Message],
        type: Any,
        *,
        repair: int = ...,
        constrain: bool = ...,
        **kwargs: Unpack[CallKwargs],
    ) -> Any: ...
    async def parse(
        self,
        inputs: str | Sequence[Message],
        type: Any,
        *,
        repair: int = 0,
        constrain: bool = True,
        **kwargs: Unpack[CallKwargs],
    ) -> Any:
        """See `BaseLLM.parse`."""
        steps = _parsing(self, inputs, type, repair, constrain, kwargs)
        call = next(steps)
        while True:
            try:
                completion = await self._complete(*call)
            except UnsupportedParameter as error:
                raise _explained(error) from None
            try:
                call = steps.send(completion)
            except StopIteration as end:
                return end.value


def _parsing(
    llm: LLMCore, inputs: Any, kind: Any, repair: int, constrain: bool, kwargs: Mapping[str, Any]
) -> _Steps:
    """Run one `parse`; see `_Steps`."""
    from ..structured.output_types import OutputType  # here, because it needs msgspec

    repairs = _repairs("repair", repair)
    given = dict(kwargs)
    if given.get("response_format") is not None:
        raise InvalidArgument(
            "response_format: parse makes it of `type`; only one can be given", argument="response_format"
        )
    try:
        output = OutputType(kind)
    except TypeError as error:
        raise InvalidArgument(f"type={validators.shown(kind)}: {error}", argument="type") from error
    start, end = (given.get(name, getattr(llm.options, name)) for name in ("sequence_start", "sequence_end"))
    if repairs and end and not start:
        raise InvalidArgument(
            f"repair={repair}: a session that this call ends cannot be continued; give sequence_end=False",
            argument="repair",
        )
    dialog = as_dialog(inputs)
    if not isinstance(dialog, (str, set, frozenset)):
        dialog = validators.listed(dialog) or dialog  # an iterator can be read once
    if validators.flag("constrain", constrain):
        given["response_format"] = output.format()
    else:
        given["response_format"] = None
        dialog = _with_schema(dialog, output.wrapped_schema)
    while True:
        completion = yield dialog, given
        try:
            return output.read(completion.content)
        except ValueError as error:
            reason = str(error)
        cut = completion.finish_reason == "length"
        if cut or not repairs:
            raise _invalid(kind, completion, reason, cut=cut)
        repairs -= 1
        again = [{"role": "user", "content": _REPAIR.format(reason=reason)}]
        if end:  # of no session: the dialog is given again
            dialog = [*dialog, completion, *again]
        else:
            dialog, given = again, {**given, "sequence_start": False}


_REPAIR = (
    "Your answer is not valid: {reason}\nAnswer again, with the corrected JSON only, without any other text."
)
_ASK = (
    "Answer with a JSON object that matches this JSON schema, and nothing else, without Markdown:\n{schema}"
)


def _with_schema(dialog: Any, schema: Mapping[str, Any]) -> Any:
    """`dialog` whose last user message asks for JSON with `schema`."""
    import msgspec  # here, to keep the package's import fast

    messages = validators.listed(dialog)
    if not messages:
        return dialog  # refused by the call
    text = _ASK.format(schema=msgspec.json.encode(schema).decode())
    for index in range(len(messages) - 1, -1, -1):
        message = validators.to_builtin(messages[index])
        if isinstance(message, Mapping) and message.get("role") == "user":
            content = message.get("content")
            parts = validators.listed(content)
            joined = f"{content}\n\n{text}" if parts is None else [*parts, {"type": "text", "text": text}]
            return [*messages[:index], {**message, "content": joined}, *messages[index + 1 :]]
    return [*messages, {"role": "user", "content": text}]


def _invalid(kind: Any, completion: Completion, reason: str, *, cut: bool) -> InvalidOutput:
    name = getattr(kind, "__name__", str(kind))
    why = "; it was cut by max_new_tokens or the server's limit" if cut else ""
    error = InvalidOutput(
        f"the answer {validators.shown(completion.text)} is no {name}: {reason}{why}",
        completion=completion,
        reason=reason,
    )
    error.partial = completion.text
    return error


def _explained(error: UnsupportedParameter) -> UnsupportedParameter:
    if error.parameter != "response_format":
        return error
    return UnsupportedParameter(
        f"{error}; parse(…, constrain=False) asks for JSON in the last user message and validates the answer",
        parameter=error.parameter,
        backend=error.backend,
    )
