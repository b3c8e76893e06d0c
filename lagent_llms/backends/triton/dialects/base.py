"""What dialects of one model that takes a prompt and gives text share: four of the five. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ....core.request import Request
from ....params import PARAMETERS, GenerationParams, Parameter
from ....schema import FinishReason, Piece, Usage
from ..conversation import NEXT, Ask, Conversation, InferRequest, InferResponse, Open, Steps
from ..dialect import Model, unsupported
from ..inputs import Inputs
from ..text_delta import Growth, Habit

__all__ = [
    "OneModel",
    "OneModelDialect",
    "TextReader",
    "finish_reason_of",
    "optional_values",
    "request_parameters",
]

#: Parameters that need an input of the model, or are refused; each dialect handles the others itself.
_OPTIONAL = [
    row
    for row in PARAMETERS.values()
    if row.name == "adapter_name"
    or (
        row.table is GenerationParams
        and row.name not in ("max_new_tokens", "top_p", "top_k", "temperature", "stop_words")
    )
]


class TextReader:
    """Makes pieces of the responses to one request.

    Args:
        request: What was asked.
        model: Who answers.
        output: Name of the output with the text.
        habit: How the text is told.

    Attributes:
        told_end: A response has said that it is the last one.
    """

    told_end = False

    def __init__(self, request: Request, model: Model, output: str, habit: Habit) -> None:
        prompt = (request.prompt or "").removeprefix(model.bos)
        self._output = output
        self._growth = Growth(habit, prompt)
        self._prompt, self._tokens = prompt, model.tokens
        self._most, self._stop_words = request.params.max_new_tokens, request.stop_words
        self._texts: list[str] | None = None if model.tokens is None else []

    def feed(self, response: InferResponse) -> Piece | None:
        """The piece that `response` brings; None when it brings nothing new."""
        text = self._growth.feed(response.text(self._output))
        return self._piece(text) if text else None

    def finish(self) -> Piece:
        """The last piece, when all responses are there."""
        piece = self._piece(self._growth.finish())
        piece.finish_reason = "stop"
        if self._tokens is not None and self._texts is not None:  # the server does not count: we do
            answer = "".join(self._texts)
            counted = len(self._tokens.encode(answer)) - len(self._tokens.encode("")) if answer else 0
            piece.usage, piece.n_tokens = Usage(len(self._tokens.encode(self._prompt)), counted), counted
            piece.finish_reason = "length" if counted >= self._most else "stop"
        return piece

    def _piece(self, text: str) -> Piece:
        if self._texts is not None:
            self._texts.append(text)
        return Piece(text)


@dataclass(frozen=True, slots=True)
class OneModel:
    """A conversation that is one request to one model.

    Attributes:
        request: What is sent.
        decoupled: Whether the answer is a stream of responses.
        model: Who is asked.
        dialect: How.
        asked: What the caller asked for.
    """

    request: InferRequest
    decoupled: bool
    model: Model
    dialect: OneModelDialect
    asked: Request

    @property
    def wait_for(self) -> None:
        """See `Conversation`: nothing."""

    def reader(self) -> TextReader:
        """A new reader of the answer."""
        return self.dialect.reader(self.asked, self.model)

    def steps(self) -> Steps:
        """See `Conversation`."""
        reader = self.reader()
        if self.decoupled:
            yield Open(self.request)
            while (response := (yield NEXT)) is not None:
                if (piece := reader.feed(response)) is not None:
                    yield piece
        elif (piece := reader.feed((yield Ask(self.request)))) is not None:
            yield piece
        yield reader.finish()

    def farewell(self) -> None:
        """See `Conversation`: to cancel the call is enough."""


class OneModelDialect(ABC):
    """A dialect of one model; a subclass names its inputs and fills them.

    Attributes:
        prompt: The input with the prompt.
        output: The output with the text.
        needs: Inputs a model must have beside the prompt to be of this dialect.
        stream: The input that asks for a stream.
        exclude: The input that keeps the prompt out of the answer.
        stops: The input with the stop words.
        optional: Our parameters -> the inputs that honour them, of which a model may have one.
    """

    name: ClassVar[str]
    prompt: ClassVar[str] = "text_input"
    output: ClassVar[str] = "text_output"
    needs: ClassVar[tuple[str, ...]] = ()
    stream: ClassVar[str] = "stream"
    exclude: ClassVar[str] = "exclude_input_in_output"
    stops: ClassVar[str] = "stop_words"
    optional: ClassVar[Mapping[str, Sequence[str]]] = {}

    def missing(self, model: Model) -> list[str]:
        """See `Dialect.missing`."""
        config = model.config
        inputs = [f"input {name}" for name in (self.prompt, *self.needs) if name not in config.inputs]
        outputs = [f"output {self.output}"] if self.output not in config.outputs else []
        return inputs + outputs

    def conversation(self, request: Request, model: Model) -> Conversation:
        """See `Dialect.conversation`."""
        inputs = Inputs(model.config)
        inputs.put(self.prompt, (request.prompt or "").removeprefix(model.bos))
        inputs.put(self.stream, request.options.stream and model.decoupled)
        inputs.put(self.exclude, True)
        if request.stop_words:  # looked for at this side too, so a model without the input will do
            inputs.put(self.stops, *request.stop_words)
        self._honour(request, inputs, model, self.fill(request, inputs, model))
        sent = InferRequest(
            model.config.name,
            inputs.tensors,
            id=request.options.request_id,
            parameters=request_parameters(request, in_sequence=model.config.in_sequence),
        )
        return OneModel(sent, model.decoupled, model, self, request)

    @abstractmethod
    def fill(self, request: Request, inputs: Inputs, model: Model) -> Collection[str]:
        """Put what only this dialect knows how to.

        Returns:
            Which of our parameters that takes care of; `optional` is looked up for the others.

        Raises:
            UnsupportedParameter: The model has no input for something that is asked.
        """

    def _honour(self, request: Request, inputs: Inputs, model: Model, done: Collection[str]) -> None:
        """Put all other parameters into the inputs that `optional` names, or refuse them."""
        for row, value in optional_values(request):
            name, names = row.name, self.optional.get(row.name, ())
            if name in done or (row.is_no_op(value) and not inputs.has(*names)):
                continue
            if not inputs.put(names, value):
                need = f"it has no input {' or '.join(names)}" if names else ""
                raise unsupported(self.name, model, name, value, need)

    def reader(self, request: Request, model: Model) -> TextReader:
        """What reads the responses to `request`."""
        excluded = self.exclude in model.config.inputs
        habit = model.habit
        if excluded and habit.echo is None:
            habit.echo = False
        return TextReader(request, model, self.output, habit)


def optional_values(request: Request) -> Iterator[tuple[Parameter, Any]]:
    """The values that need an input of the model, or are refused; those that are None are left out."""
    for row in _OPTIONAL:
        value = getattr(request.params if row.table is GenerationParams else request.options, row.name)
        if value is not None:
            yield row, value


def request_parameters(
    request: Request, *, in_sequence: bool, sequence_id: int | None = None
) -> dict[str, bool | int | float | str]:
    """The parameters of a request: sequence, priority, and what the caller adds."""
    options = request.options
    parameters: dict[str, bool | int | float | str] = {}
    if in_sequence or not options.stateless:
        parameters["sequence_id"] = options.session_id if sequence_id is None else sequence_id
        parameters["sequence_start"] = options.sequence_start
        parameters["sequence_end"] = options.sequence_end
    if options.priority is not None:
        parameters["priority"] = options.priority
    parameters.update(options.parameters or {})
    return parameters


def finish_reason_of(word: str) -> FinishReason | None:
    """What a server's finish reason means, None while it is not finished."""
    return (
        "length" if word == "length" else "stop" if word in ("stop", "eos", "end_id", "stop_words") else None
    )
