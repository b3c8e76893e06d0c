"""`Client`: synchronous client of a LoRAX server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..core.repeat import repeat
from ..locks import locked_cached_property
from . import calls
from .async_client import AsyncClient
from .client_core import ClientCore
from .client_methods import StreamState, copy_signature
from .request_types import MergedAdapters
from .response_types import ResponseHeaders, StreamResponse

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..http.exchange import Call
    from ..http.sync_client import HTTPTransport

__all__ = ["AsyncClient", "Client", "MergedAdapters", "TokenStream"]

P = ParamSpec("P")
T = TypeVar("T")


class TokenStream(Iterator[StreamResponse]):
    """Iterator over the tokens of one generation. Closing it or leaving the loop stops the generation."""

    def __init__(self, client: Client, call: Call[StreamResponse]) -> None:
        self._state = StreamState(client._attempts())
        call = self._state.capture_headers(call)
        self._open = partial(client.transport.open, call, client._timeout)
        self._closed = threading.Event()
        self._source = self._open()

    def __next__(self) -> StreamResponse:
        while True:
            try:
                response = next(self._source)
            except BaseException as error:
                self._source.close()
                if self._closed.is_set() or (seconds := self._state.backoff(error)) is None:
                    raise
            else:
                self._state.add(response)
                return response
            if self._closed.wait(seconds):
                raise StopIteration
            self._source = self._open()

    def close(self) -> None:
        """Stop the generation."""
        self._closed.set()
        self._source.close()

    @property
    def headers(self) -> ResponseHeaders | None:
        """Counts and names from the response's headers; None before the first item."""
        return self._state.headers

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_source" in vars(self):
            self.close()


def _unary_method(
    build: Callable[Concatenate[ClientCore, P], Call[T]], returns: str
) -> Callable[Concatenate[Client, P], T]:
    """Make the client method that sends the call `build` returns and returns its result."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = build(self, *args, **kwargs)
        return repeat(self._attempts(), lambda: self.transport.fetch(call, self._timeout))

    return copy_signature(method, build, returns)


def _stream_method(
    build: Callable[Concatenate[ClientCore, P], Call[StreamResponse]],
) -> Callable[Concatenate[Client, P], TokenStream]:
    """Make the client method that sends the call `build` returns and returns its stream."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> TokenStream:
        return TokenStream(self, build(self, *args, **kwargs))

    return copy_signature(method, build, "Iterator[StreamResponse]")


class Client(ClientCore):
    """Synchronous client of a LoRAX server. Thread-safe.

    ::

        with Client("http://127.0.0.1:8080") as client:
            client.generate("Why is the sky blue?", adapter_id="some/adapter").generated_text
            for response in client.generate_stream("Why is the sky blue?"):
                print(response.token.text, end="")

    The arguments are those of `ClientCore`.
    """

    generate = _unary_method(calls.generate, "Response")
    generate_stream = _stream_method(calls.generate_stream)
    info = _unary_method(calls.info, "Info")
    health = _unary_method(calls.health, "bool")
    metrics = _unary_method(calls.metrics, "str")
    tokenize = _unary_method(calls.tokenize, "list[SimpleToken]")
    embed = _unary_method(calls.embed, "EmbedResponse")
    classify = _unary_method(calls.classify, "ClassifyResponse")
    classify_batch = _unary_method(calls.classify_batch, "list[ClassifyResponse]")

    @locked_cached_property
    def transport(self) -> HTTPTransport:
        """The HTTP connections, opened on first use."""
        from ..http.sync_client import HTTPTransport

        return HTTPTransport(self._endpoints, **self._transport_options)

    def close(self) -> None:
        """Close idle connections; a later request opens new ones."""
        if "transport" in vars(self):
            self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
