"""Who answers on the pages: a `JAXServer`, or any backend behind an `LLMSource`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...core.base import AsyncBaseLLM
from ...core.streams import AsyncStream
from ..disconnect import call_keywords

__all__ = ["LLMSource", "PageDefaults", "PageSource", "Pair", "Pairs"]

#: (text so far, tokens so far if known), as `JAXServer.process` gives them.
Pair = tuple[str, "int | None"]
Pairs = Iterable[tuple[str, int]] | AsyncIterator[Pair]


@dataclass(frozen=True)
class PageDefaults:
    """What the advanced options say at first.

    Attributes:
        system: The system prompt; '' is none.
        temperature: Randomness.
        max_new_tokens: Most tokens of an answer.
        most_new_tokens: The highest value of that.
    """

    system: str
    temperature: float
    max_new_tokens: int
    most_new_tokens: int


class PageSource(Protocol):
    """Answers what is asked on the pages."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def page_defaults(self) -> PageDefaults:
        """What the advanced options say at first."""

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> Pairs:
        """Answer a chat; see `JAXServer.stream_chat`."""

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Pairs:
        """Answer an instruction; see `JAXServer.stream_instruct`."""


class LLMSource:
    """Any backend, for the pages.

    Args:
        llm: Who answers; its template writes the prompts.
        name: What the model is called.
    """

    def __init__(self, llm: AsyncBaseLLM, name: str) -> None:
        self._llm = llm
        self.name = name

    @property
    def page_defaults(self) -> PageDefaults:
        """See `PageSource`."""
        usual = self._llm.params.max_new_tokens
        most = max(
            usual, self._llm.context_len or usual
        )  # of a remote model only the usual is known to be right
        return PageDefaults("", self._llm.params.temperature, usual, most)

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> AsyncIterator[Pair]:
        """See `PageSource`."""
        messages = [{"role": "system", "content": system}] if system else []
        for asked, answered in history or ():
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        messages.append({"role": "user", "content": prompt})
        given = {"max_new_tokens": max_new_tokens, "temperature": 0.0 if greedy else temperature}
        known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return _Pairs(self._llm.stream_chat(messages, **known, **call_keywords(self._llm)))

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncIterator[Pair]:
        """See `PageSource`."""
        return self.stream_chat(prompt, None, greedy, max_new_tokens, temperature, system=system)


class _Pairs(AsyncIterator[Pair]):
    """What the pages read of a stream."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    async def __anext__(self) -> Pair:
        _, text, n_tokens = await self._stream.__anext__()
        return text, n_tokens

    def close(self) -> None:
        """Stop the generation."""
        self._stream.close()
