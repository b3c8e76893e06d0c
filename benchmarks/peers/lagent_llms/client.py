"""lagent_llms with all its checks enabled, and the plain clients it is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clients.contract import PROMPT, STOP_WORDS, Client
from benchmarks.clients.floor import pick, request_body

PATH = "/v1/completions"
HEADERS = {"Content-Type": "application/json"}
STREAMED = request_body("completions", stream=True)
WHOLE = request_body("completions", stream=False)
of_event, of_answer = pick("completions")


class Ours:
    """`LMDeployClient` with stop words; each chunk has a status and the new text."""

    def __init__(self, url: str) -> None:
        from lagent_llms import LMDeployClient

        self._llm = LMDeployClient(url, "m", stop_words=STOP_WORDS)

    def stream(self, take: Callable[[str], object]) -> None:
        for chunk in self._llm.stream_generate(PROMPT):
            if chunk.status >= 0:
                take(chunk.delta)

    def answer(self) -> str:
        return self._llm.generate(PROMPT, stream=False)

    def close(self) -> None:
        self._llm.close()


class OursAsync:
    """`AsyncLMDeployClient`."""

    def __init__(self, url: str) -> None:
        from lagent_llms import AsyncLMDeployClient

        self._llm = AsyncLMDeployClient(url, "m", stop_words=STOP_WORDS)

    async def stream(self, take: Callable[[str], object]) -> None:
        async for chunk in self._llm.stream_generate(PROMPT):
            if chunk.status >= 0:
                take(chunk.delta)

    async def answer(self) -> str:
        return await self._llm.generate(PROMPT, stream=False)

    async def close(self) -> None:
        await self._llm.aclose()


class OursUnpacked(Ours):
    """`LMDeployClient` whose chunks are unpacked to (status, text so far, tokens), as lagent's loops do."""

    def stream(self, take: Callable[[str], object]) -> None:
        seen = 0
        for _, text, _ in self._llm.stream_generate(PROMPT):
            take(text[seen:])
            seen = len(text)


class HTTPClient:
    """http.client and orjson, line by line."""

    def __init__(self, url: str) -> None:
        import http.client

        import orjson

        parts = urlsplit(url)
        self._path = parts.path + PATH
        self._loads = orjson.loads
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def _ask(self, body: bytes) -> Any:
        self._connection.request("POST", self._path, body, HEADERS)
        return self._connection.getresponse()

    def stream(self, take: Callable[[str], object]) -> None:
        for line in self._ask(STREAMED):
            if line.startswith(b"data: {") and (text := of_event(self._loads(line[6:]))):
                take(text)

    def answer(self) -> str:
        return of_answer(self._loads(self._ask(WHOLE).read()))

    def close(self) -> None:
        self._connection.close()


class Requests:
    """requests with a session, iter_lines and json."""

    def __init__(self, url: str) -> None:
        import requests

        self._url = url + PATH
        self._session = requests.Session()

    def stream(self, take: Callable[[str], object]) -> None:
        with self._session.post(self._url, data=STREAMED, headers=HEADERS, stream=True) as response:
            for line in response.iter_lines():
                if line.startswith(b"data: {") and (text := of_event(json.loads(line[6:]))):
                    take(text)

    def answer(self) -> str:
        return of_answer(self._session.post(self._url, data=WHOLE, headers=HEADERS).json())

    def close(self) -> None:
        self._session.close()


class AIOHTTP:
    """aiohttp with a session, the lines of its body, and json."""

    def __init__(self, url: str) -> None:
        self._url = url + PATH
        self._session: Any = None

    def _ask(self, body: bytes) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session.post(self._url, data=body, headers=HEADERS)

    async def stream(self, take: Callable[[str], object]) -> None:
        async with self._ask(STREAMED) as response:
            async for line in response.content:
                if line.startswith(b"data: {") and (text := of_event(json.loads(line[6:]))):
                    take(text)

    async def answer(self) -> str:
        async with self._ask(WHOLE) as response:
            return of_answer(json.loads(await response.read()))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


CLIENTS = [
    Client(
        "lagent_llms",
        "completions",
        Ours,
        OursAsync,
        imports="from lagent_llms import LMDeployClient, AsyncLMDeployClient",
        distribution="lagent_llms",
    ),
    Client("lagent_llms, text so far read", "completions", OursUnpacked),
    Client(
        "http.client + orjson",
        "completions",
        HTTPClient,
        imports="import http.client, orjson",
        distribution="orjson",
    ),
    Client("requests", "completions", Requests, imports="import requests", distribution="requests"),
    Client("aiohttp", "completions", None, AIOHTTP, imports="import aiohttp", distribution="aiohttp"),
]
