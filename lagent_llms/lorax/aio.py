"""`AsyncClient`: a LoRAX server, called with await."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from . import calls
from .answers import ResponseHeaders, StreamResponse
from .core import ClientCore
from .methods import Heard, presented

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..http.async_client import AsyncHTTPTransport
    from ..http.exchange import Call

__all__ = ["AsyncClient", "AsyncTokenStream"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTokenStream(AsyncIterator[StreamResponse]):
    """The tokens of one answer. Closing it, leaving its loop, or cancelling the task stops the generation."""

    def __init__(self, client: AsyncClient, call: Call[StreamResponse]) -> None:
        self._heard = Heard()
        self._source = client.transport.open(self._heard.listening(call), client._timeout)
        self._ready = self._source.ready

    async def __anext__(self) -> StreamResponse:
        try:
            response = self._ready.popleft() if self._ready else await self._source.__anext__()
        except BaseException as error:
            self._source.close()
            self._heard.put_into(error)
            raise
        self._heard.add(response)
        return response

    async def aclose(self) -> None:
        """Stop the generation."""
        self.close()

    def close(self) -> None:
        """`aclose`, from where nothing can be awaited."""
        self._ready.clear()
        self._source.close()

    @property
    def headers(self) -> ResponseHeaders | None:
        """What the response's headers tell; None before the first step."""
        return self._heard.headers

    async def __aenter__(self) -> AsyncTokenStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_source" in vars(self):
            self.close()


def _fetched(
    build: Callable[Concatenate[ClientCore, P], Call[T]], returns: str
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method that makes the call `build` and returns its result."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.transport.fetch(build(self, *args, **kwargs), self._timeout)

    return presented(method, build, returns)


def _streamed(
    build: Callable[Concatenate[ClientCore, P], Call[StreamResponse]],
) -> Callable[Concatenate[AsyncClient, P], AsyncTokenStream]:
    """The method that makes the call `build` and returns a stream of what comes."""

    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncTokenStream:
        return AsyncTokenStream(self, build(self, *args, **kwargs))

    return presented(method, build, "AsyncIterator[StreamResponse]")


class AsyncClient(ClientCore):
    """`Client`, called with await; the methods mean the same. One object may serve several event loops.

    ::

        async with AsyncClient("http://127.0.0.1:8080") as client:
            (await client.generate("Why is the sky blue?", adapter_id="some/adapter")).generated_text
            async for response in client.generate_stream("Why is the sky blue?"):
                print(response.token.text, end="")

    The arguments are those of `ClientCore`.
    """

    session_type = "aiohttp.ClientSession"

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
    def transport(self) -> AsyncHTTPTransport:
        """The connections, made when they are first needed."""
        from ..http.async_client import AsyncHTTPTransport

        return AsyncHTTPTransport(self._endpoints, **self._transport_options)

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request makes new ones."""
        if "transport" in vars(self):
            await self.transport.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()
