"""What a LoRAX server answers, as types: the documented fields, and those the server added since."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from ..http.messages import ResponseHead
from .models import Model

__all__ = [
    "AlternativeToken",
    "BestOfSequence",
    "ClassifyResponse",
    "DeployedModel",
    "Details",
    "EmbedResponse",
    "Entity",
    "FinishReason",
    "Info",
    "InputToken",
    "Response",
    "ResponseHeaders",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "Token",
]


class FinishReason(str, Enum):
    """Why an answer ended."""

    #: As many tokens as max_new_tokens.
    Length = "length"
    #: The model's end-of-sequence token.
    EndOfSequenceToken = "eos_token"
    #: One of stop_sequences.
    StopSequence = "stop_sequence"


class InputToken(Model):
    """A token of the prompt. `logprob` is None for the first one, which has none."""

    id: int
    text: str
    logprob: float | None = None


class AlternativeToken(Model):
    """One of the most probable tokens at a place."""

    id: int
    text: str
    logprob: float | None = None


class Token(Model):
    """A generated token.

    Attributes:
        id: In the model's vocabulary.
        text: '' while a character of several bytes is not complete.
        logprob: None where the server could not tell a finite number.
        special: Can be used to leave tokens out when texts are joined.
        alternative_tokens: As many as return_k_alternatives, None when not asked for.
        skipped: Generated, but left out of the text by the server.
    """

    id: int
    text: str
    logprob: float | None
    special: bool
    alternative_tokens: list[AlternativeToken] | None = None
    skipped: bool = False


class BestOfSequence(Model):
    """A further answer, with best_of."""

    generated_text: str
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None = None
    prefill: list[InputToken] = msgspec.field(default_factory=list)
    tokens: list[Token] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        self._convert(finish_reason=FinishReason, prefill=list[InputToken], tokens=list[Token])


class Details(Model):
    """About an answer in one piece.

    Attributes:
        finish_reason: Why it ended.
        generated_tokens: How many, the end token among them.
        prompt_tokens: Of the prompt; 0 from servers that do not say.
        seed: Of the sampling, None when greedy.
        prefill: The prompt's tokens, with decoder_input_details.
        tokens: The answer's.
        best_of_sequences: The others, with best_of.
        skipped_tokens: Tokens the server left out of the text.
    """

    finish_reason: FinishReason
    generated_tokens: int
    prompt_tokens: int = 0
    seed: int | None = None
    prefill: list[InputToken] = msgspec.field(default_factory=list)
    tokens: list[Token] = msgspec.field(default_factory=list)
    best_of_sequences: list[BestOfSequence] | None = None
    skipped_tokens: int = 0

    def __post_init__(self) -> None:
        self._convert(
            finish_reason=FinishReason,
            prefill=list[InputToken],
            tokens=list[Token],
            best_of_sequences=list[BestOfSequence],
        )


class ResponseHeaders(Model):
    """What the headers of an answer tell; of a stream only the last three. Times are milliseconds.

    Attributes:
        total_time: From the request to the answer.
        validation_time: For the checks.
        queue_time: Before decoding began.
        inference_time: For decoding.
        time_per_token: On average.
        prompt_tokens: Of the prompt.
        generated_tokens: Of the answer.
        model_id: The base model.
        adapter_id: The adapter, or merged ones with commas between them.
        adapter_source: Where it is from.
    """

    total_time: float | None = None
    validation_time: float | None = None
    queue_time: float | None = None
    inference_time: float | None = None
    time_per_token: float | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    model_id: str | None = None
    adapter_id: str | None = None
    adapter_source: str | None = None

    @classmethod
    def of(cls, head: ResponseHead) -> ResponseHeaders:
        """Those of `head`."""
        found = {name: head.headers.get("x-" + name.replace("_", "-")) for name in cls.__struct_fields__}
        given = {name: value for name, value in found.items() if value is not None}
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError:  # written by a proxy; the answer is worth more than its headers
            return cls()


class Response(Model, dict=True):
    """What generate gives."""

    generated_text: str
    details: Details | None = None

    def __post_init__(self) -> None:
        self._convert(details=Details)

    @property
    def headers(self) -> ResponseHeaders:
        """The timings and counts in the response's headers; no part of comparisons and dumps."""
        found: ResponseHeaders = self.__dict__.get("headers") or ResponseHeaders()
        return found

    @classmethod
    def of(cls, head: ResponseHead, body: bytes) -> Response:
        """The answer in a response's body: of a list (/) its only item, or the object itself (/generate)."""
        found = _decode_response(body)
        if not found:
            raise msgspec.ValidationError("there is no answer")
        response = found if isinstance(found, Response) else found[0]
        response.__dict__["headers"] = ResponseHeaders.of(head)
        return response


class StreamDetails(Model):
    """About a streamed answer; as `Details`."""

    finish_reason: FinishReason
    generated_tokens: int
    prompt_tokens: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        self._convert(finish_reason=FinishReason)


class StreamResponse(Model):
    """One step of generate_stream.

    Attributes:
        token: The new token.
        generated_text: The whole text, at the last step only.
        details: At the last step only, with details.
    """

    token: Token
    generated_text: str | None = None
    details: StreamDetails | None = None

    def __post_init__(self) -> None:
        if self.__class__ is StreamResponse and not isinstance(self.token, Token):
            self._convert(token=Token, details=StreamDetails)


class DeployedModel(Model):
    """A model that is deployed."""

    model_id: str
    sha: str


class SimpleToken(Model):
    """A token of `tokenize`; `start` and `stop` are places in the text."""

    id: int
    text: str
    start: int
    stop: int


class EmbedResponse(Model):
    """What embed gives."""

    embeddings: list[float] | None


class Entity(Model):
    """Something that classify found in a text."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class ClassifyResponse(Model):
    """What classify gives; entities are dicts (see `Entity` for their keys), as in lorax-client."""

    entities: list[dict[str, Any]] | None


class Info(Model):
    """What a server says of itself. Servers differ in what they tell: what one does not is None.

    Attributes:
        model_id: The base model.
        max_stop_sequences: Most stop_sequences of a request.
        max_best_of: Highest best_of.
        max_input_length: Most tokens of a prompt.
        max_total_tokens: Most tokens of prompt and answer.
        max_concurrent_requests: Beyond these a request is refused (`OverloadedError`).
    """

    model_id: str
    model_sha: str | None = None
    model_dtype: str | None = None
    model_device_type: str | None = None
    model_pipeline_tag: str | None = None
    max_concurrent_requests: int | None = None
    max_best_of: int | None = None
    max_stop_sequences: int | None = None
    max_input_length: int | None = None
    max_total_tokens: int | None = None
    waiting_served_ratio: float | None = None
    max_batch_total_tokens: int | None = None
    max_waiting_tokens: int | None = None
    validation_workers: int | None = None
    eager_prefill: bool | None = None
    version: str | None = None
    sha: str | None = None
    docker_label: str | None = None
    request_logger_url: str | None = None


_decode_response = msgspec.json.Decoder(list[Response] | Response).decode
