"""openai's own client, with the chat route its users take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.clients.contract import PROMPT, Client

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}


class OpenAI:
    def __init__(self, url: str) -> None:
        from openai import OpenAI as Made

        self._client = Made(base_url=f"{url}/v1", api_key="none")

    def stream(self, take: Callable[[str], object]) -> None:
        for chunk in self._client.chat.completions.create(**ASKED, stream=True):
            if text := chunk.choices[0].delta.content:
                take(text)

    def answer(self) -> str:
        return self._client.chat.completions.create(**ASKED).choices[0].message.content or ""

    def close(self) -> None:
        self._client.close()


class AsyncOpenAI:
    def __init__(self, url: str) -> None:
        from openai import AsyncOpenAI as Made

        self._client = Made(base_url=f"{url}/v1", api_key="none")

    async def stream(self, take: Callable[[str], object]) -> None:
        async for chunk in await self._client.chat.completions.create(**ASKED, stream=True):
            if text := chunk.choices[0].delta.content:
                take(text)

    async def answer(self) -> str:
        return (await self._client.chat.completions.create(**ASKED)).choices[0].message.content or ""

    async def close(self) -> None:
        await self._client.close()


CLIENTS = [Client("openai", "chat", OpenAI, AsyncOpenAI, "from openai import OpenAI, AsyncOpenAI", "openai")]
