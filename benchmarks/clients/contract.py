"""The interface of a measured client, and the answers that all clients read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "PEERS",
    "PROMPT",
    "STOP_WORDS",
    "AsyncClient",
    "Client",
    "SyncClient",
    "load",
    "scenario",
    "text",
    "word",
]

#: One folder per virtual environment, with its requirements and a client.py that defines CLIENTS.
PEERS = Path(__file__).parent.parent / "peers"

PROMPT = "Tell me a story."
STOP_WORDS = ["<|im_end|>", "<|action_end|>", "</s>", "\nUser:", "Observation:"]
_WORDS = (" the", " story", " of", " a", " <b>", " fox", "，从前", "有", " who", " said", ".\n", " 42", "!")


class SyncClient(Protocol):
    """A client for the base URL of one scenario; keeps its connections until it is closed."""

    def stream(self, take: Callable[[str], object]) -> None:
        """Request the streamed answer; call `take` with each new piece of text."""

    def answer(self) -> str:
        """Request the answer without streaming; return its text."""

    def close(self) -> None:
        """Close the connections."""


class AsyncClient(Protocol):
    """`SyncClient` with await; used by one event loop."""

    async def stream(self, take: Callable[[str], object]) -> None: ...
    async def answer(self) -> str: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Client:
    """A measured client.

    Attributes:
        name: Its name in the tables.
        route: Its protocol: 'completions', 'chat' or 'lorax'; the floor uses the same.
        sync: Creates a `SyncClient` for a base URL and imports its library only then; None if it has none.
        aio: Creates an `AsyncClient`; None if it has none.
        imports: The import statement of a user; '' for the standard library.
        distribution: Name of its distribution.
    """

    name: str
    route: str
    sync: Callable[[str], SyncClient] | None = None
    aio: Callable[[str], AsyncClient] | None = None
    imports: str = ""
    distribution: str = ""


def load(peer: str) -> list[Client]:
    """Return the clients of benchmarks/peers/`peer`."""
    spec = importlib.util.spec_from_file_location(f"client_of_{peer}", PEERS / peer / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CLIENTS)


def scenario(port: int, chunks: int, pause_us: int = 0) -> str:
    """Return the base URL of answers of `chunks` chunks, one event per `pause_us` µs; 0 sends all at once."""
    return f"http://127.0.0.1:{port}/{chunks}/{pause_us}"


def word(index: int) -> str:
    """Return the text of one chunk: words, Chinese, and sometimes text that may begin a stop word."""
    return _WORDS[index % len(_WORDS)]


def text(chunks: int) -> str:
    """Return the whole text of an answer of `chunks` chunks."""
    return "".join(map(word, range(chunks)))
