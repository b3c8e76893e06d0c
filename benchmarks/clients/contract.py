"""What a client must offer to be measured, and the answers that all of them read."""

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

#: A folder for each virtual environment, with its requirements and a client.py that names its CLIENTS.
PEERS = Path(__file__).parent.parent / "peers"

PROMPT = "Tell me a story."
STOP_WORDS = ["<|im_end|>", "<|action_end|>", "</s>", "\nUser:", "Observation:"]
_WORDS = (" the", " story", " of", " a", " <b>", " fox", "，从前", "有", " who", " said", ".\n", " 42", "!")


class SyncClient(Protocol):
    """Made with the base URL of a scenario; keeps its connections until it is closed."""

    def stream(self, take: Callable[[str], object]) -> None:
        """Ask for the streamed answer and give `take` each new piece of text as it comes."""

    def answer(self) -> str:
        """Ask for the answer in one piece."""

    def close(self) -> None:
        """Close the connections."""


class AsyncClient(Protocol):
    """`SyncClient` with await; used by one event loop."""

    async def stream(self, take: Callable[[str], object]) -> None: ...
    async def answer(self) -> str: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Client:
    """One client that is measured.

    Attributes:
        name: As the tables call it.
        route: What it speaks: 'completions', 'chat' or 'lorax'; the floor speaks the same.
        sync: Makes a `SyncClient` of a base URL; None when there is none. Nothing is imported before.
        aio: Makes an `AsyncClient`.
        imports: The statement a user begins with, '' when it is part of Python.
        distribution: What is installed for it.
    """

    name: str
    route: str
    sync: Callable[[str], SyncClient] | None = None
    aio: Callable[[str], AsyncClient] | None = None
    imports: str = ""
    distribution: str = ""


def load(peer: str) -> list[Client]:
    """The clients of benchmarks/peers/`peer`."""
    spec = importlib.util.spec_from_file_location(f"client_of_{peer}", PEERS / peer / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CLIENTS)


def scenario(port: int, chunks: int, pause_us: int = 0) -> str:
    """The base URL of answers of so many chunks, an event every `pause_us` or all at once."""
    return f"http://127.0.0.1:{port}/{chunks}/{pause_us}"


def word(index: int) -> str:
    """The text of one chunk: words, Chinese, and now and then what might begin a stop word."""
    return _WORDS[index % len(_WORDS)]


def text(chunks: int) -> str:
    """The whole answer of so many chunks."""
    return "".join(map(word, range(chunks)))
