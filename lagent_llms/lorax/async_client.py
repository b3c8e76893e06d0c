"""`AsyncClient`: asynchronous client of a LoRAX server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..core.repeat import repeat_async
from ..locks import locked_cached_property
from . import calls
from .client_core import ClientCore
from .client_methods import StreamState, copy_signature
from .response_types import ResponseHeaders, StreamResponse

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..http.async_client import AsyncHTTPTransport
    from ..http.exchange import Call

__all__ = ["AsyncClient", "AsyncTokenStream"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTokenStream(AsyncIterator[StreamResponse]):
    """Asynchronous iterator over the tokens of one generation.

    Closing it, leaving the loop or cancelling the task stops the generation.
    """

    def __init__(self, client: AsyncClient, call: Call[StreamResponse]) -> None:
        self._state = StreamState(client._attempts())
        call = self._state.capture_headers(call)
        self._open = partial(client.transport.open, call, client._timeout)
        self._closed = False
        self._source = self._open()
        self._ready = self._source.ready

    async def __anext__(self) -> StreamResponse:
        while True:
            try:
                response = self._ready.popleft() if self._ready else await self._source.__anext__()
            except BaseException as error:
                self._source.close()
                if self._closed or (seconds := self._state.backoff(error)) is None:
                    raise
            else:
                self._state.add(response)
                return response
            await asyncio.sleep(seconds)
            if self._closed:
                raise StopAsyncIteration
            self._source = self._open()
            self._ready = self._source.ready

    async def aclose(self) -> None:
        """Stop the generation."""
        self.close()

    def close(self) -> None:
        """`aclose` for code that cannot await."""
        self._closed = True
        self._ready.clear()
        self._source.close()

    @property
    def headers(self) -> ResponseHeaders | None:
        """Counts and names from the response's headers; None before the first item."""
        return self._state.headers

    async def __aenter__(self) -> AsyncTokenStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_source" in vars(self):
            self.close()


def _unary_method(
    build: Callable[Concatenate[ClientCore, P], Call[T]], returns: str
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Make the client method that sends the call `build` returns and returns its result."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = build(self, *args, **kwargs)
        return await repeat_async(self._attempts(), lambda: self.transport.fetch(call, self._timeout))

    return copy_signature(method, build, returns)


def _stream_method(
    build: Callable[Concatenate[ClientCore, P], Call[StreamResponse]],
) -> Callable[Concatenate[AsyncClient, P], AsyncTokenStream]:
    """Make the client method that sends the call `build` returns and returns its stream."""

    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncTokenStream:
        return AsyncTokenStream(self, build(self, *args, **kwargs))

    return copy_signature(method, build, "AsyncIterator[StreamResponse]")


class AsyncClient(ClientCore):
    """Asynchronous `Client`, with the same methods. One object may be used from several event loops.

    ::

        async with AsyncClient("http://127.0.0.1:8080") as client:
            (await client.generate("Why is the sky blue?", adapter_id="some/adapter")).generated_text
            async for response in client.generate_stream("Why is the sky blue?"):
                print(response.token.text, end="")

    The arguments are those of `ClientCore`.
    """

    session_type = "aiohttp.ClientSession"

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
    def transport(self) -> AsyncHTTPTransport:
        """The HTTP connections, opened on first use."""
        from ..http.async_client import AsyncHTTPTransport

        return AsyncHTTPTransport(self._endpoints, **self._transport_options)

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request opens new ones."""
        if "transport" in vars(self):
            await self.transport.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()
