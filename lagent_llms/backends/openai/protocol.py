"""Requests to servers with OpenAI's routes, in the form of their flavour, and their responses. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from ...core.request import Request
from ...errors import LLMError
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest, ResponseHead
from ...params import PARAMETERS
from ...protocols.openai import CompletionDecoder, completion_body, model_names, read_error
from ...schema import Piece
from .flavours import FLAVOURS, Tokenize

__all__ = ["Listing", "answer_call", "listing_call", "models_call", "tokenize_call"]

#: OpenAI's own fields of a request; others are a flavour's.
_OPENAI = frozenset(
    (
        *("model", "messages", "prompt", "stream", "stream_options", "stop", "max_tokens", "temperature"),
        *("top_p", "seed", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice"),
    )
)
#: Statuses of servers that do not know a route or a field.
_UNKNOWN = frozenset((400, 404, 405, 422, 501))


class Listing(NamedTuple):
    """What a server says of itself in /v1/models.

    Attributes:
        models: The names of its models.
        flavour: Its flavour; 'compatible' if it does not say.
    """

    models: list[str]
    flavour: str


def answer_call(
    request: Request, model: str, name: str, *, api: str, bos: str = "", is_guess: bool = True
) -> Call[Piece]:
    """Build the call for `request`: /v1/completions for a prompt, /v1/chat/completions for messages.

    Args:
        request: The generation.
        model: The server's name of the model.
        name: The server's flavour.
        api: Path of its API, '/v1'.
        bos: The template's BOS, removed from the prompt because servers add the tokenizer's.
        is_guess: Whether the server may be of another flavour; errors say so.
    """
    flavour, options = FLAVOURS[name], request.options
    fields = flavour.chat_fields if request.prompt is None else flavour.prompt_fields
    body = completion_body(
        request,
        model,
        stop=request.stop_words[: flavour.max_stop_words],
        fields=fields,
        no_top_k=flavour.no_top_k,
    )
    if "top_k" not in flavour.fields:
        body.pop("top_k", None)
    if flavour.no_op_is_default:
        for parameter, wire in fields:
            if wire in body and body[wire] == PARAMETERS[parameter].no_op:
                del body[wire]
    for parameter, others in flavour.beside.items():
        if flavour.fields[parameter] in body:
            body |= others
    if options.adapter_name is not None:
        body[flavour.fields["adapter_name"]] = options.adapter_name
    if (response_format := request.params.response_format) is not None:
        body |= flavour.constraint_fields(response_format, prompt=request.prompt is not None)
    if request.prompt is None:
        body |= flavour.always
    else:
        body["prompt"] = request.prompt.removeprefix(bos)
    path = api + ("/chat/completions" if request.prompt is None else "/completions")
    headers = {"X-Request-Id": options.request_id} if options.request_id else None
    special = ", ".join(sorted(body.keys() - _OPENAI)) if is_guess else ""
    explain = partial(_read_error, name, special)
    return Call(
        HTTPRequest.json(path, body, headers), partial(CompletionDecoder, read_error=explain), explain
    )


def tokenize_call(text: str, model: str, name: str, *, bos: str = "") -> Call[list[int]]:
    """Build the call that returns the token ids of `text`; see `answer_call` for the arguments."""
    route = FLAVOURS[name].tokenize
    assert route is not None
    body = {"model": model, route.text: text.removeprefix(bos), **route.fields}
    parse = partial(_token_ids, route, name)
    return Call(
        HTTPRequest.json(route.path, body),
        partial(BodyDecoder, parse),
        partial(_read_error, name, f"the route {route.path}"),
    )


def models_call(api: str) -> Call[list[str]]:
    """Build the call that returns the names of the models."""
    return Call(HTTPRequest("GET", f"{api}/models"), partial(BodyDecoder, model_names), read_error)


def listing_call(api: str) -> Call[Listing]:
    """Build the call that asks the server for its models and its flavour."""
    return Call(HTTPRequest("GET", f"{api}/models"), partial(BodyDecoder, _listing), read_error)


class _Card(msgspec.Struct):
    id: str
    owned_by: Any = None
    status: Any = None


class _Cards(msgspec.Struct):
    data: list[_Card]


def _listing(body: bytes) -> Listing:
    cards = msgspec.json.decode(body, type=_Cards).data
    owners = {card.owned_by for card in cards if isinstance(card.owned_by, str)}
    found = next((name for name, flavour in FLAVOURS.items() if owners.intersection(flavour.owners)), "")
    if not found and any(isinstance(card.status, Mapping) for card in cards):
        found = "transformers"
    if not found and any(card.owned_by == card.id for card in cards):
        found = "tgi"
    return Listing([card.id for card in cards], found or "compatible")


def _token_ids(route: Tokenize, name: str, body: bytes) -> list[int]:
    found = msgspec.json.decode(body)
    try:
        ids = found[route.ids] if route.ids else [item["id"] for item in found]
        return msgspec.convert(ids, list[int])
    except (KeyError, TypeError, msgspec.ValidationError):
        form = f"an object with {route.ids!r}" if route.ids else "a list"
        raise msgspec.ValidationError(f"flavour={name!r} answers {form}") from None


def _read_error(name: str, special: str, head: ResponseHead, body: bytes, where: str) -> LLMError:
    """`openai.read_error`; an error about what only the flavour has says so."""
    error = read_error(head, body, where)
    if special and head.status in _UNKNOWN:
        error.args = (
            f"{error}; flavour={name!r} has {special}: is the server another kind? flavour='auto' asks it",
        )
    return error
