"""What a LoRAX server can be asked, each as the call that asks for it. Pure: both clients send these.

The first argument is the client; with the others, these are the methods of `Client` and `AsyncClient`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ..http.exchange import Call
from ..http.messages import ResponseHead
from .answers import ClassifyResponse, EmbedResponse, Info, Response, SimpleToken, StreamResponse
from .core import ClientCore
from .parameters import BatchRequest, MergedAdapters, Parameters, Request
from .protocol import EventDecoder, get_call, post_call, stream_call
from .response_format import ResponseFormat

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
    """Given a prompt, generate the following text.

    Args:
        client: The client.
        prompt: Input text.
        adapter_id: Adapter to apply to the base model for this request.
        adapter_source: Where it is from: 'hub', 'local', 's3' or 'pbase'; None is the server's default.
        merged_adapters: Several adapters merged into one, in place of adapter_id.
        api_token: Token for private adapters.
        do_sample: Draw tokens at random; else the most probable one is taken, unless temperature, top_k,
            top_p or typical_p ask for sampling.
        max_new_tokens: Most tokens to generate; None is all that fit.
        best_of: Generate this many texts and return the most probable one.
        repetition_penalty: Above 0; 1.0 is no penalty.
        return_full_text: Put the prompt before the text.
        seed: Makes sampling repeatable.
        stop_sequences: End the text after any of these; it is part of the text.
        temperature: 0 or more; 0 is greedy.
        top_k: Keep this many most probable tokens.
        top_p: Keep the smallest set of most probable tokens that add up to this; above 0 and below 1.
        truncate: Keep this many last tokens of the prompt.
        typical_p: Typical decoding mass; above 0 and below 1.
        watermark: Mark the text as generated (arXiv 2301.10226).
        response_format: A form the text must have: a dict (``{"type": "json_object", "schema": {…}}``), a
            JSON schema, a pydantic model class, or a regular expression (for the content of a JSON string).
        decoder_input_details: Also return the prompt's tokens and their log-probabilities.
        details: Return tokens, their log-probabilities and the finish reason.
        ignore_eos_token: Go on after the end-of-sequence token.
        frequency_penalty: -2 to 2; grows with how often a token was generated.
        presence_penalty: -2 to 2; for tokens that were generated.
        return_k_alternatives: Also return this many most probable tokens at each place.

    Returns:
        The generated text, with `details` and the timings of the server in `headers`.

    Raises:
        ValidationError: A value is not allowed; nothing was sent.
        LLMError: The call failed: see `lagent_llms.lorax.errors`.
    """
    request = Request(prompt, _parameters(locals()))
    return post_call("", request.body(), Response.of, client.secrets(api_token))


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
    """Given a prompt, generate the following text token by token.

    The arguments are those of `generate` but best_of and decoder_input_details, which streams do not have.

    Returns:
        An iterator over the tokens; closing it or leaving the loop stops the generation. The last item has
        `generated_text` and `details`.

    Raises:
        ValidationError: A value is not allowed; nothing was sent.
        LLMError: While iterating, whatever breaks the answer off; its `partial` is the text received so far.
    """
    request = Request(prompt, _parameters(locals()), stream=True)
    return stream_call(
        "", request.body(), partial(EventDecoder, _decode_event, _is_last), client.secrets(api_token)
    )


def info(client: ClientCore) -> Call[Info]:
    """What the server says of itself: its model, and its limits."""
    return get_call("/info", partial(_decoded, msgspec.json.Decoder(Info)), client.secrets())


def health(client: ClientCore) -> Call[bool]:
    """Whether the server can generate; it generates a token to find out.

    Returns:
        True.

    Raises:
        LLMError: It cannot, or is not there.
    """
    return get_call("/health", lambda head, body: True, client.secrets())


def metrics(client: ClientCore) -> Call[str]:
    """The server's metrics, in Prometheus' text format."""
    return get_call("/metrics", lambda head, body: body.decode(), client.secrets())


def tokenize(client: ClientCore, inputs: str, add_special_tokens: bool = True) -> Call[list[SimpleToken]]:
    """The tokens of a text.

    Args:
        client: The client.
        inputs: Any text.
        add_special_tokens: Whether the tokenizer's BOS and the like are put around it.

    Returns:
        One entry a token, with its id and its place in the text.
    """
    body = {"inputs": Request(inputs).inputs, "add_special_tokens": bool(add_special_tokens)}
    return post_call(
        "/tokenize", body, partial(_decoded, msgspec.json.Decoder(list[SimpleToken])), client.secrets()
    )


def embed(client: ClientCore, inputs: str) -> Call[EmbedResponse]:
    """The embedding of a text, from a server of an embedding model."""
    return post_call(
        "/embed",
        Request(inputs).body(),
        partial(_decoded, msgspec.json.Decoder(EmbedResponse)),
        client.secrets(),
    )


def classify(client: ClientCore, inputs: str) -> Call[ClassifyResponse]:
    """What a server of a token classification model finds in a text."""
    return post_call("/classify", Request(inputs).body(), _entities, client.secrets())


def classify_batch(client: ClientCore, inputs: Sequence[str]) -> Call[list[ClassifyResponse]]:
    """`classify` of several texts at once, in their order."""
    return post_call("/classify_batch", BatchRequest(list(inputs)).body(), _batch_entities, client.secrets())


def _parameters(given: Mapping[str, Any]) -> Parameters:
    """Parameters of the arguments of `generate`, which are all named as the wire's but one."""
    stop = given["stop_sequences"]
    fields = {name: value for name, value in given.items() if name in Parameters.__struct_fields__}
    return Parameters(stop=[] if stop is None else stop, **fields)


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
