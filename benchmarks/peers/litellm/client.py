"""litellm, as a client of an OpenAI-style server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.clients.contract import PROMPT, Client

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise the import downloads a price list


def asked(url: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": "openai/m", "messages": messages, "api_base": f"{url}/v1", "api_key": "none"}


class LiteLLM:
    def __init__(self, url: str) -> None:
        import litellm

        self._complete = litellm.completion
        self._asked = asked(url)

    def stream(self, take: Callable[[str], object]) -> None:
        for chunk in self._complete(**self._asked, stream=True):
            if text := chunk.choices[0].delta.content:
                take(text)

    def answer(self) -> str:
        return self._complete(**self._asked).choices[0].message.content

    def close(self) -> None:
        pass


class AsyncLiteLLM:
    def __init__(self, url: str) -> None:
        import litellm

        self._complete = litellm.acompletion
        self._asked = asked(url)

    async def stream(self, take: Callable[[str], object]) -> None:
        async for chunk in await self._complete(**self._asked, stream=True):
            if text := chunk.choices[0].delta.content:
                take(text)

    async def answer(self) -> str:
        return (await self._complete(**self._asked)).choices[0].message.content

    async def close(self) -> None:
        pass


CLIENTS = [Client("litellm", "chat", LiteLLM, AsyncLiteLLM, "import litellm", "litellm")]
