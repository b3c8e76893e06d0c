"""Types of responses: the fields of lorax-client, and those the server has added since."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from ..http.messages import ResponseHead
from ..protocols.finish_reasons import known_reason
from .base_model import BaseModel

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
    """Reason why a generation ended."""

    #: max_new_tokens was reached.
    Length = "length"
    #: The model generated its end-of-sequence token.
    EndOfSequenceToken = "eos_token"
    #: The text contains one of stop_sequences.
    StopSequence = "stop_sequence"

    @classmethod
    def _missing_(cls, value: object) -> FinishReason | None:
        """Return the member that another server's word stands for, a new one for an unknown word."""
        if not isinstance(value, str):
            return None
        word = value.lower()
        if word in ("eos", "end_turn"):
            return cls.EndOfSequenceToken
        if known_reason(word) == "length":
            return cls.Length
        member = str.__new__(cls, value)
        member._name_, member._value_ = value, value
        return member


class InputToken(BaseModel):
    """A token of the prompt. The first token has no `logprob`."""

    id: int
    text: str
    logprob: float | None = None


class AlternativeToken(BaseModel):
    """One of the most probable tokens at a position."""

    id: int
    text: str
    logprob: float | None = None


class Token(BaseModel):
    """A generated token.

    Attributes:
        id: Id in the model's vocabulary.
        text: Text; '' while a character of several bytes is incomplete.
        logprob: Log-probability; None if it is not finite.
        special: True for special tokens; leave them out when joining texts.
        alternative_tokens: The `return_k_alternatives` most probable tokens; None if not requested.
        skipped: True if the server left the token out of the text.
    """

    id: int
    text: str
    logprob: float | None
    special: bool
    alternative_tokens: list[AlternativeToken] | None = None
    skipped: bool = False


class BestOfSequence(BaseModel):
    """A further generation of a request with best_of."""

    generated_text: str
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None = None
    prefill: list[InputToken] = msgspec.field(default_factory=list)
    tokens: list[Token] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        self._convert(finish_reason=FinishReason, prefill=list[InputToken], tokens=list[Token])


class Details(BaseModel):
    """Details of a generation that is not streamed.

    Attributes:
        finish_reason: Reason why the generation ended.
        generated_tokens: Number of generated tokens, end token included.
        prompt_tokens: Number of prompt tokens; 0 if the server does not report it.
        seed: Seed of the sampling; None for greedy decoding.
        prefill: Tokens of the prompt, with decoder_input_details.
        tokens: Generated tokens.
        best_of_sequences: The other generations, with best_of.
        skipped_tokens: Number of tokens that the server left out of the text.
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


class ResponseHeaders(BaseModel):
    """Timings, counts and names from the response's headers; streams have only the last three.

    Attributes:
        total_time: Time from request to response, in milliseconds.
        validation_time: Time of the validation, in milliseconds.
        queue_time: Time in the queue before inference, in milliseconds.
        inference_time: Time of inference, in milliseconds.
        time_per_token: Mean time per token, in milliseconds.
        prompt_tokens: Number of prompt tokens.
        generated_tokens: Number of generated tokens.
        model_id: Base model.
        adapter_id: Adapter, or the merged adapters separated by commas.
        adapter_source: Source of the adapter.
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
        """Read the headers of a response; all fields are None if one cannot be parsed."""
        found = {name: head.headers.get("x-" + name.replace("_", "-")) for name in cls.__struct_fields__}
        given = {name: value for name, value in found.items() if value is not None}
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError:  # e.g. changed by a proxy; must not fail the response
            return cls()


class Response(BaseModel, dict=True):
    """Result of `generate`."""

    generated_text: str
    details: Details | None = None

    def __post_init__(self) -> None:
        self._convert(details=Details)

    @property
    def headers(self) -> ResponseHeaders:
        """Timings and counts from the response's headers; not part of comparisons and dumps."""
        found: ResponseHeaders = self.__dict__.get("headers") or ResponseHeaders()
        return found


class StreamDetails(BaseModel):
    """Details of a streamed generation; see `Details`."""

    finish_reason: FinishReason
    generated_tokens: int
    prompt_tokens: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        self._convert(finish_reason=FinishReason)


class StreamResponse(BaseModel):
    """Item of `generate_stream`.

    Attributes:
        token: The new token.
        generated_text: The whole text, in the last item only.
        details: Details, in the last item only and if requested.
    """

    token: Token
    generated_text: str | None = None
    details: StreamDetails | None = None

    def __post_init__(self) -> None:
        if self.__class__ is StreamResponse and not isinstance(self.token, Token):
            self._convert(token=Token, details=StreamDetails)


class DeployedModel(BaseModel):
    """A deployed model."""

    model_id: str
    sha: str


class SimpleToken(BaseModel):
    """Token of `tokenize`; `start` and `stop` are its offsets in the text."""

    id: int
    text: str
    start: int
    stop: int


class EmbedResponse(BaseModel):
    """Result of `embed`."""

    embeddings: list[float] | None


class Entity(BaseModel):
    """An entity found by `classify`."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class ClassifyResponse(BaseModel):
    """Result of `classify`; entities are dicts with the fields of `Entity`, as in lorax-client."""

    entities: list[dict[str, Any]] | None


class Info(BaseModel):
    """Result of `info`. Fields that the server does not report are None.

    Attributes:
        model_id: Base model.
        max_stop_sequences: Largest number of stop_sequences.
        max_best_of: Largest best_of.
        max_input_length: Longest prompt, in tokens.
        max_total_tokens: Longest prompt and generated text together, in tokens.
        max_concurrent_requests: Number of concurrent requests beyond which the server raises
            `OverloadedError`.
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
