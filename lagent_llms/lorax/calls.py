"""The methods of `Client` and `AsyncClient`, written once as functions that build the HTTP call. No I/O.

The first argument is the client, whose method has the other arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ..http.exchange import Call
from ..http.messages import ResponseHead
from .client_core import ClientCore
from .protocol import EventDecoder, get_call, post_call, stream_call
from .request_types import BatchRequest, MergedAdapters, Parameters, Request
from .response_format import ResponseFormat
from .response_types import ClassifyResponse, EmbedResponse, Info, Response, SimpleToken, StreamResponse
from .result_forms import read_result

__all__ = [
    "classify",
    "classify_batch",
    "embed",
    "generate",
    "generate_stream",
    "health",
    "info",
    "metrics",
    "tokenize",
]

Format = Mapping[str, Any] | ResponseFormat | type | str | re.Pattern[str]


def generate(
    client: ClientCore,
    prompt: str,
    adapter_id: str | None = None,
    adapter_source: str | None = None,
    merged_adapters: MergedAdapters | Mapping[str, Any] | None = None,
    api_token: str | None = None,
    do_sample: bool = False,
    max_new_tokens: int | None = 20,
    best_of: int | None = None,
    repetition_penalty: float | None = None,
    return_full_text: bool = False,
    seed: int | None = None,
    stop_sequences: Sequence[str] | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    truncate: int | None = None,
    typical_p: float | None = None,
    watermark: bool = False,
    response_format: Format | None = None,
    decoder_input_details: bool = False,
    details: bool = True,
    *,
    ignore_eos_token: bool = False,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    return_k_alternatives: int | None = None,
) -> Call[Response]:
    """Generate the text that follows a prompt.

    Args:
        client: The client.
        prompt: Input text.
        adapter_id: Adapter to apply to the base model for this request.
        adapter_source: Source of the adapter: 'hub', 'local', 's3' or 'pbase'; None is the server's default.
        merged_adapters: Several adapters to merge, instead of adapter_id.
        api_token: Token for private adapters.
        do_sample: Sample tokens; with False decoding is greedy unless temperature, top_k, top_p or typical_p
            is given.
        max_new_tokens: Largest number of tokens to generate; None is the server's limit.
        best_of: Generate this many texts and return the most probable one.
        repetition_penalty: Above 0; 1.0 is no penalty.
        return_full_text: Prepend the prompt to the text.
        seed: Seed that makes sampling reproducible.
        stop_sequences: Stop after any of these strings, which stays in the text.
        temperature: 0 or more; 0 is greedy.
        top_k: Sample from this many most probable tokens.
        top_p: Sample from the smallest set of most probable tokens with this total; above 0 and below 1.
        truncate: Truncate the prompt to its last tokens, this many.
        typical_p: Mass of typical decoding (arXiv 2202.00666); above 0 and below 1.
        watermark: Watermark the text (arXiv 2301.10226).
        response_format: Constraint on the text: a dict (``{"type": "json_object", "schema": {…}}``), a JSON
            schema, a pydantic model class, or a regular expression (for the content of a JSON string).
        decoder_input_details: Return the prompt's tokens and their log-probabilities as well.
        details: Return tokens, their log-probabilities and the finish reason.
        ignore_eos_token: Continue after the end-of-sequence token.
        frequency_penalty: -2 to 2; proportional to how often a token was generated.
        presence_penalty: -2 to 2; for every token that was generated.
        return_k_alternatives: Return this many most probable tokens per position as well.

    Returns:
        The generated text, with `details`, and the server's timings in `headers`.

    Raises:
        ValidationError: A value is not allowed; nothing was sent.
        LLMError: The call failed; see `lagent_llms.lorax.errors`.
    """
    request = Request(prompt, _parameters(locals()))
    return post_call("", request.body(), read_result, _given(api_token))


def generate_stream(
    client: ClientCore,
    prompt: str,
    adapter_id: str | None = None,
    adapter_source: str | None = None,
    merged_adapters: MergedAdapters | Mapping[str, Any] | None = None,
    api_token: str | None = None,
    do_sample: bool = False,
    max_new_tokens: int | None = 20,
    repetition_penalty: float | None = None,
    return_full_text: bool = False,
    seed: int | None = None,
    stop_sequences: Sequence[str] | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    truncate: int | None = None,
    typical_p: float | None = None,
    watermark: bool = False,
    response_format: Format | None = None,
    details: bool = True,
    *,
    ignore_eos_token: bool = False,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    return_k_alternatives: int | None = None,
) -> Call[StreamResponse]:
    """Generate the text that follows a prompt, token by token.

    The arguments are those of `generate`, without best_of and decoder_input_details, which streams do not
    support.

    Returns:
        An iterator over the tokens; closing it or leaving the loop stops the generation. The last item has
        `generated_text` and `details`.

    Raises:
        ValidationError: A value is not allowed; nothing was sent.
        LLMError: Raised while iterating, if the generation fails; `partial` is the text received so far.
    """
    request = Request(prompt, _parameters(locals()), stream=True)
    return stream_call("", request.body(), partial(EventDecoder, _decode_event, _is_last), _given(api_token))


def info(client: ClientCore) -> Call[Info]:
    """The server's model and limits."""
    return get_call("/info", partial(_decoded, msgspec.json.Decoder(Info)))


def health(client: ClientCore) -> Call[bool]:
    """Check that the server can generate (it generates one token).

    Returns:
        True.

    Raises:
        LLMError: The server cannot generate or cannot be reached.
    """
    return get_call("/health", lambda head, body: True)


def metrics(client: ClientCore) -> Call[str]:
    """The server's metrics in Prometheus' text format."""
    return get_call("/metrics", lambda head, body: body.decode())


def tokenize(client: ClientCore, inputs: str, add_special_tokens: bool = True) -> Call[list[SimpleToken]]:
    """Tokenize a text.

    Args:
        client: The client.
        inputs: Text.
        add_special_tokens: Add BOS and other special tokens as the tokenizer does.

    Returns:
        Id, text and position of every token.
    """
    body = {"inputs": Request(inputs).inputs, "add_special_tokens": bool(add_special_tokens)}
    return post_call("/tokenize", body, partial(_decoded, msgspec.json.Decoder(list[SimpleToken])))


def embed(client: ClientCore, inputs: str) -> Call[EmbedResponse]:
    """Embed a text; the server must serve an embedding model."""
    return post_call(
        "/embed",
        Request(inputs).body(),
        partial(_decoded, msgspec.json.Decoder(EmbedResponse)),
    )


def classify(client: ClientCore, inputs: str) -> Call[ClassifyResponse]:
    """Find the entities in a text; the server must serve a token classification model."""
    return post_call("/classify", Request(inputs).body(), _entities)


def classify_batch(client: ClientCore, inputs: Sequence[str]) -> Call[list[ClassifyResponse]]:
    """`classify` for several texts, in their order."""
    return post_call("/classify_batch", BatchRequest(list(inputs)).body(), _batch_entities)


def _parameters(given: Mapping[str, Any]) -> Parameters:
    """Convert the arguments of `generate`; all but `stop_sequences` have the names of the protocol."""
    stop = given["stop_sequences"]
    fields = {name: value for name, value in given.items() if name in Parameters.__struct_fields__}
    return Parameters(stop=[] if stop is None else stop, **fields)


def _given(api_token: str | None) -> tuple[str, ...]:
    return () if api_token is None else (api_token,)


_decode_event = msgspec.json.Decoder(StreamResponse).decode
_decode_entities = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_batch = msgspec.json.Decoder(list[list[dict[str, Any]]]).decode


def _is_last(response: StreamResponse) -> bool:
    return response.generated_text is not None or response.details is not None


def _decoded(decoder: msgspec.json.Decoder[Any], head: ResponseHead, body: bytes) -> Any:
    return decoder.decode(body)


def _entities(head: ResponseHead, body: bytes) -> ClassifyResponse:
    return ClassifyResponse(_decode_entities(body))


def _batch_entities(head: ResponseHead, body: bytes) -> list[ClassifyResponse]:
    return [ClassifyResponse(entities) for entities in _decode_batch(body)]
