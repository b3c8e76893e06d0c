"""`Client`: a LoRAX server, called synchronously."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from . import calls
from .aio import AsyncClient
from .answers import ResponseHeaders, StreamResponse
from .core import ClientCore
from .methods import Heard, presented
from .parameters import MergedAdapters

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..http.exchange import Call
    from ..http.sync_client import HTTPTransport

__all__ = ["AsyncClient", "Client", "MergedAdapters", "TokenStream"]

P = ParamSpec("P")
T = TypeVar("T")


class TokenStream(Iterator[StreamResponse]):
    """The tokens of one answer. Closing it, or leaving its loop, stops the generation."""

    def __init__(self, client: Client, call: Call[StreamResponse]) -> None:
        self._heard = Heard()
        self._source = client.transport.open(self._heard.listening(call), client._timeout)

    def __next__(self) -> StreamResponse:
        try:
            response = next(self._source)
        except BaseException as error:
            self._source.close()
            self._heard.put_into(error)
            raise
        self._heard.add(response)
        return response

    def close(self) -> None:
        """Stop the generation."""
        self._source.close()

    @property
    def headers(self) -> ResponseHeaders | None:
        """What the response's headers tell; None before the first step."""
        return self._heard.headers

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_source" in vars(self):
            self.close()


def _fetched(
    build: Callable[Concatenate[ClientCore, P], Call[T]], returns: str
) -> Callable[Concatenate[Client, P], T]:
    """The method that makes the call `build` and returns its result."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.transport.fetch(build(self, *args, **kwargs), self._timeout)

    return presented(method, build, returns)


def _streamed(
    build: Callable[Concatenate[ClientCore, P], Call[StreamResponse]],
) -> Callable[Concatenate[Client, P], TokenStream]:
    """The method that makes the call `build` and returns a stream of what comes."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> TokenStream:
        return TokenStream(self, build(self, *args, **kwargs))

    return presented(method, build, "Iterator[StreamResponse]")


class Client(ClientCore):
    """A LoRAX server, called synchronously. Safe to share between threads.

    ::

        with Client("http://127.0.0.1:8080") as client:
            client.generate("Why is the sky blue?", adapter_id="some/adapter").generated_text
            for response in client.generate_stream("Why is the sky blue?"):
                print(response.token.text, end="")

    The arguments are those of `ClientCore`.
    """

    generate = _fetched(calls.generate, "Response")
    generate_stream = _streamed(calls.generate_stream)
    info = _fetched(calls.info, "Info")
    health = _fetched(calls.health, "bool")
    metrics = _fetched(calls.metrics, "str")
    tokenize = _fetched(calls.tokenize, "list[SimpleToken]")
    embed = _fetched(calls.embed, "EmbedResponse")
    classify = _fetched(calls.classify, "ClassifyResponse")
    classify_batch = _fetched(calls.classify_batch, "list[ClassifyResponse]")

    @cached_property
    def transport(self) -> HTTPTransport:
        """The connections, made when they are first needed."""
        from ..http.sync_client import HTTPTransport

        return HTTPTransport(self._endpoints, **self._transport_options)

    def close(self) -> None:
        """Close the connections that wait for a request; a later request makes new ones."""
        if "transport" in vars(self):
            self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
