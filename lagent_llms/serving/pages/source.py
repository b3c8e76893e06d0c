"""The source of the pages' answers: a `JAXServer`, or any backend wrapped in an `LLMSource`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...core.base import AsyncBaseLLM
from ...core.streams import AsyncStream
from ..disconnect import Injection, call_keywords

__all__ = ["LLMSource", "PageDefaults", "PageSource", "TextUpdate", "TextUpdates"]

#: (text so far, tokens so far; None if unknown), as `JAXServer.process` yields them.
TextUpdate = tuple[str, "int | None"]
TextUpdates = Iterable[tuple[str, int]] | AsyncIterator[TextUpdate]


@dataclass(frozen=True)
class PageDefaults:
    """Initial values of a page's advanced options.

    Attributes:
        system: The system prompt; '' is none.
        temperature: Sampling temperature.
        max_new_tokens: Most tokens of an answer.
        max_new_tokens_limit: The largest value of `max_new_tokens` that a visitor can choose.
    """

    system: str
    temperature: float
    max_new_tokens: int
    max_new_tokens_limit: int


class PageSource(Protocol):
    """Answers the requests made on the pages."""

    @property
    def name(self) -> str:
        """The model's name, shown on the pages."""

    @property
    def page_defaults(self) -> PageDefaults:
        """Initial values of the advanced options."""

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> TextUpdates:
        """Stream the answer to a chat; see `JAXServer.stream_chat`."""

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> TextUpdates:
        """Stream the answer to an instruction; see `JAXServer.stream_instruct`."""


class LLMSource:
    """Serves any backend on the pages.

    Args:
        llm: The backend; its template formats the prompts.
        name: The model's name, shown on the pages.
        injection: See `call_keywords`.
        seconds: See `call_keywords`.
    """

    def __init__(
        self,
        llm: AsyncBaseLLM,
        name: str,
        *,
        injection: Injection | None = None,
        seconds: float | None = None,
    ) -> None:
        self._llm, self._injection, self._seconds = llm, injection, seconds
        self.name = name

    @property
    def page_defaults(self) -> PageDefaults:
        """See `PageSource`."""
        max_new_tokens = self._llm.params.max_new_tokens
        # The context length of a remote model may be unknown; only the default is then known to be valid.
        limit = max(max_new_tokens, self._llm.context_len or max_new_tokens)
        return PageDefaults("", self._llm.params.temperature, max_new_tokens, limit)

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> AsyncIterator[TextUpdate]:
        """See `PageSource`."""
        messages = [{"role": "system", "content": system}] if system else []
        for user, assistant in history or ():
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        messages.append({"role": "user", "content": prompt})
        options = {"max_new_tokens": max_new_tokens, "temperature": 0.0 if greedy else temperature}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return _StreamUpdates(
            self._llm.stream_chat(
                messages, **given, **call_keywords(self._llm, self._injection, self._seconds)
            )
        )

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncIterator[TextUpdate]:
        """See `PageSource`."""
        return self.stream_chat(prompt, None, greedy, max_new_tokens, temperature, system=system)


class _StreamUpdates(AsyncIterator[TextUpdate]):
    """Text and token count of each chunk of a stream."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    async def __anext__(self) -> TextUpdate:
        _, text, n_tokens = await self._stream.__anext__()
        return text, n_tokens

    def close(self) -> None:
        """Stop the generation."""
        self._stream.close()
