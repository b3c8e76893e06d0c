"""Base of the dialects of a single model that takes a prompt and returns text. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ....core.request import Request
from ....errors import ServerError
from ....params import PARAMETERS, GenerationParams, Parameter
from ....protocols.finish_reasons import is_unfinished, known_reason
from ....schema import FinishReason, Piece, Usage
from ..conversation import READ_RESPONSE, Conversation, Infer, InferRequest, InferResponse, OpenStream, Steps
from ..dialect import Model, unsupported
from ..inputs import RequestInputs
from ..text_delta import OutputStyle, TextDelta

__all__ = [
    "OneModel",
    "OneModelDialect",
    "TextReader",
    "finish_reason_of",
    "make_request_parameters",
    "optional_values",
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
    """Turns the responses to one request into pieces of the answer.

    Args:
        request: The request.
        model: The model that it was sent to.
        output: Name of the output with the text.
        output_style: Whether responses are cumulative or echo the prompt.

    Attributes:
        told_end: Whether a response has given a finish reason, and so was the last one.
    """

    told_end = False

    def __init__(self, request: Request, model: Model, output: str, output_style: OutputStyle) -> None:
        prompt = (request.prompt or "").removeprefix(model.bos)
        self._output = output
        self._delta = TextDelta(output_style, prompt)
        self._prompt, self._tokenizer = prompt, model.tokenizer
        self._max_new_tokens, self._stop_words = request.params.max_new_tokens, request.stop_words
        self._texts: list[str] | None = None if model.tokenizer is None else []

    def feed(self, response: InferResponse) -> Piece | None:
        """Return the piece in `response`, None if it has nothing new."""
        text = self._delta.feed(response.text(self._output))
        return self._piece(text) if text else None

    def finish(self) -> Piece:
        """Return the last piece, after the last response."""
        piece = self._piece(self._delta.finish())
        piece.finish_reason = "stop"
        if self._tokenizer is not None and self._texts is not None:  # the server does not count tokens
            answer = "".join(self._texts)
            encode = self._tokenizer.encode
            count = len(encode(answer)) - len(encode("")) if answer else 0
            piece.usage, piece.n_tokens = Usage(len(encode(self._prompt)), count), count
            piece.finish_reason = "length" if count >= self._max_new_tokens else "stop"
        return piece

    def _piece(self, text: str) -> Piece:
        if self._texts is not None:
            self._texts.append(text)
        return Piece(text)


@dataclass(frozen=True, slots=True)
class OneModel:
    """A conversation of one request to one model.

    Attributes:
        request: The request to the model.
        decoupled: Whether the responses are a stream.
        model: The model.
        dialect: Its dialect.
        source: The caller's request.
    """

    request: InferRequest
    decoupled: bool
    model: Model
    dialect: OneModelDialect
    source: Request

    @property
    def server_session(self) -> None:
        """See `Conversation`: none."""

    def reader(self) -> TextReader:
        """Return a new reader of the responses."""
        return self.dialect.reader(self.source, self.model)

    def steps(self) -> Steps:
        """See `Conversation`."""
        reader = self.reader()
        if self.decoupled:
            yield OpenStream(self.request)
            while (response := (yield READ_RESPONSE)) is not None:
                yield reader.feed(response) or Piece()  # the server generates: the wait begins again
        elif (piece := reader.feed((yield Infer(self.request)))) is not None:
            yield piece
        yield reader.finish()

    def cancel_request(self) -> None:
        """See `Conversation`: cancelling the call is enough."""


class OneModelDialect(ABC):
    """A dialect of a single model; a subclass names the model's inputs and fills them.

    Attributes:
        prompt: Name of the input with the prompt.
        output: Name of the output with the text.
        needs: Further inputs that a model must have to fit this dialect.
        stream: Name of the input that switches streaming on.
        exclude: Name of the input that keeps the prompt out of the answer.
        stops: Name of the input with the stop words.
        optional: Parameter of this library -> alternative names of the input for it.
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
        inputs = RequestInputs(model.config)
        inputs.put(self.prompt, (request.prompt or "").removeprefix(model.bos))
        inputs.put(self.stream, request.options.stream and model.decoupled)
        inputs.put(self.exclude, True)
        if request.stop_words:  # a model may lack the input: the client looks for stop words too
            inputs.put(self.stops, *request.stop_words)
        self._fill_optional(request, inputs, model, self.fill(request, inputs, model))
        inputs.add(request.options.extra_inputs or {})
        infer_request = InferRequest(
            model.config.name,
            inputs.tensors,
            request.options.request_id,
            make_request_parameters(request, in_sequence=model.config.in_sequence),
        )
        return OneModel(infer_request, model.decoupled, model, self, request)

    @abstractmethod
    def fill(self, request: Request, inputs: RequestInputs, model: Model) -> Collection[str]:
        """Set the inputs that are specific to this dialect.

        Returns:
            The parameters of this library that are thereby honoured; `optional` is used for the others.

        Raises:
            UnsupportedParameter: The model has no input for a parameter.
        """

    def _fill_optional(
        self, request: Request, inputs: RequestInputs, model: Model, done: Collection[str]
    ) -> None:
        """Set the inputs that `optional` names for the parameters not in `done`; refuse those without one."""
        for row, value in optional_values(request):
            name, names = row.name, self.optional.get(row.name, ())
            if name in done or (row.is_no_op(value) and not inputs.has(*names)):
                continue
            if not inputs.put(names, value):
                reason = f"it has no input {' or '.join(names)}" if names else ""
                raise unsupported(self.name, model, name, value, reason)

    def reader(self, request: Request, model: Model) -> TextReader:
        """Return a reader of the responses to `request`."""
        excluded = self.exclude in model.config.inputs
        output_style = model.output_style
        if excluded and output_style.echo is None:
            output_style.echo = False
        return TextReader(request, model, self.output, output_style)


def optional_values(request: Request) -> Iterator[tuple[Parameter, Any]]:
    """The values that need an input of the model, or are refused; those that are not sent are left out."""
    for row in _OPTIONAL:
        if row.table is GenerationParams and not request.sends(row.name):
            continue
        value = getattr(request.params if row.table is GenerationParams else request.options, row.name)
        if value is not None:
            yield row, value


def make_request_parameters(
    request: Request, *, in_sequence: bool, sequence_id: int | None = None
) -> dict[str, bool | int | float | str]:
    """Return the request parameters: sequence, priority, and those the caller adds."""
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
    """Return the finish reason that a server's word stands for, None if it is not finished.

    Raises:
        ServerError: The word says that the answer is not complete.
    """
    if is_unfinished(word):
        return None
    if (reason := known_reason(word)) is None:
        raise ServerError(f"the server ended the answer with {word!r}", code=word)
    return reason
