"""lorax-client, which makes a new connection for each request."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clients.contract import PROMPT, Client


class Lorax:
    def __init__(self, url: str) -> None:
        from lorax import Client as Made

        self._client = Made(url + "/")

    def stream(self, take: Callable[[str], object]) -> None:
        for response in self._client.generate_stream(PROMPT):
            if not response.token.special:
                take(response.token.text)

    def answer(self) -> str:
        return self._client.generate(PROMPT).generated_text

    def close(self) -> None:
        pass


class AsyncLorax:
    def __init__(self, url: str) -> None:
        from lorax import AsyncClient as Made

        self._client = Made(url + "/")

    async def stream(self, take: Callable[[str], object]) -> None:
        async for response in self._client.generate_stream(PROMPT):
            if not response.token.special:
                take(response.token.text)

    async def answer(self) -> str:
        return (await self._client.generate(PROMPT)).generated_text

    async def close(self) -> None:
        pass


CLIENTS = [
    Client(
        "lorax-client",
        "lorax",
        Lorax,
        AsyncLorax,
        imports="from lorax import Client, AsyncClient",
        distribution="lorax-client",
    )
]
