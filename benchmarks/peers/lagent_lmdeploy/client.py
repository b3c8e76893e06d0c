"""lagent's own LMDeployClient, which needs the APIClient of lmdeploy 0.9.2.

Newer versions of lmdeploy have dropped that module. Only this module is loaded, from the installed file:
importing the whole of lmdeploy would import torch, which the client does not use.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import sys
import types
from collections.abc import Callable

from benchmarks.clients.contract import PROMPT, STOP_WORDS, Client

MESSAGES = [{"role": "user", "content": PROMPT}]
NAME = "lmdeploy.serve.openai.api_client"


def provide_api_client() -> None:
    """Make lmdeploy's api_client importable without the rest of lmdeploy."""
    if NAME in sys.modules:
        return
    for package in ("lmdeploy", "lmdeploy.serve", "lmdeploy.serve.openai"):
        sys.modules[package] = types.ModuleType(package)
    utils = types.ModuleType("lmdeploy.utils")
    utils.get_logger = logging.getLogger  # type: ignore[attr-defined]
    sys.modules["lmdeploy.utils"] = utils
    path = importlib.metadata.distribution("lmdeploy").locate_file(NAME.replace(".", "/") + ".py")
    spec = importlib.util.spec_from_file_location(NAME, str(path))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])


class Lagent:
    def __init__(self, url: str) -> None:
        provide_api_client()
        from lagent.llms import LMDeployClient

        self._llm = LMDeployClient(url=url, model_name="m", stop_words=STOP_WORDS)

    def stream(self, take: Callable[[str], object]) -> None:
        seen = 0
        for _, text, _ in self._llm.stream_chat(MESSAGES):
            take(text[seen:])
            seen = len(text)

    def answer(self) -> str:
        return self._llm.generate(PROMPT)

    def close(self) -> None:
        pass


class AsyncLagent:
    def __init__(self, url: str) -> None:
        provide_api_client()
        from lagent.llms import AsyncLMDeployClient

        self._llm = AsyncLMDeployClient(url=url, model_name="m", stop_words=STOP_WORDS)

    async def stream(self, take: Callable[[str], object]) -> None:
        seen = 0
        async for _, text, _ in self._llm.stream_chat(MESSAGES):
            take(text[seen:])
            seen = len(text)

    async def answer(self) -> str:
        return await self._llm.generate(PROMPT)

    async def close(self) -> None:
        pass


CLIENTS = [
    Client(
        "lagent",
        "completions",
        Lagent,
        AsyncLagent,
        imports="from lagent.llms import LMDeployClient, AsyncLMDeployClient",
        distribution="lagent",
    )
]
