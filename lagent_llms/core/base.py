"""The base classes of all backends: `BaseLLM` and `AsyncBaseLLM`, the same methods with and without await.

A backend subclasses both and implements two hooks:

- ``_open(request)`` starts one generation and returns the source of its `Piece` s;
- ``_tokenize(text)`` tokenizes as the model does.

A third, ``_free()``, frees its resources.

Everything else (parameters, template, sessions, stop words, batches, errors) is implemented here and in
`lagent_llms.core.llm`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..schema import Completion, Message
from . import batch
from .admission import admission_of
from .crew import complete_all
from .gates import AsyncGate, AsyncPlace, Place
from .llm import as_dialog
from .parsing import AsyncParsingLLM, ParsingLLM
from .repeat import repeat, repeat_async
from .request import Input, Request
from .session import AsyncHoldsSessions, HoldsSessions
from .sources import AsyncSource, Source
from .streams import AsyncStream, AsyncTextStream, Stream, TextStream

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..params import CallKwargs

__all__ = ["AsyncBaseLLM", "BaseLLM"]

Dialog = Sequence[Message]
Dialogs = Sequence[Sequence[Message]]
Prompts = list[str] | tuple[str, ...]
_T = TypeVar("_T")
_text: Callable[[Completion], str] = attrgetter("text")


class BaseLLM(HoldsSessions, ParsingLLM):
    """A language model, called synchronously. Safe to share between threads."""

    @abstractmethod
    def _open(self, request: Request) -> Source:
        """Start one generation and return the source of its pieces."""

    @abstractmethod
    def _tokenize(self, text: str) -> list[int]:
        """The token ids of `text` as a prompt of the model."""

    @overload
    def generate(self, inputs: str, session_ids: int | None = ..., **kwargs: Unpack[CallKwargs]) -> str: ...
    @overload
    def generate(
        self, inputs: Prompts, session_ids: int | Sequence[int] | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> list[str]: ...
    def generate(
        self,
        inputs: str | Prompts,
        session_ids: int | Sequence[int] | None = None,
        **kwargs: Unpack[CallKwargs],
    ) -> str | list[str]:
        """Continue one prompt, or several concurrently.

        Args:
            inputs: A prompt, used as it is (no template), or a list of prompts (any iterable but a set; none
                gives an empty list).
            session_ids: The session, or one for each prompt; the same as ``session_id``.
            **kwargs: Any parameter of `GenerationParams` and `CallOptions`, for this call only. In a batch
                ``session_id`` and those that name adapters may be lists with one entry for each prompt.

        Returns:
            The text after the prompt, or a list of texts in the order of `inputs`.

        Raises:
            BatchError: A prompt of a list failed; carries the other texts.
            LLMError: The single prompt failed.
        """
        prompts, given = batch.check_prompts(inputs), batch.with_sessions(kwargs, session_ids)
        if isinstance(prompts, str):
            return self._complete(prompts, given).text
        return self._complete_many(prompts, given, _text)

    @overload
    def chat(self, inputs: Dialog, session_ids: int | None = ..., **kwargs: Unpack[CallKwargs]) -> str: ...
    @overload
    def chat(
        self, inputs: Dialogs, session_ids: int | Sequence[int] | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> list[str]: ...
    def chat(
        self,
        inputs: Dialog | Dialogs,
        session_ids: int | Sequence[int] | None = None,
        **kwargs: Unpack[CallKwargs],
    ) -> str | list[str]:
        """Answer a dialog, or several concurrently.

        Args:
            inputs: Messages (mappings with ``role`` and ``content``), or a list of dialogs. A string is a
                user message. An empty list is no dialogs, and gives an empty list.
            session_ids: The session, or one for each dialog; the same as ``session_id``.
            **kwargs: As for `generate`.

        Returns:
            The answer, or a list of answers in the order of `inputs`.

        Raises:
            BatchError: A dialog of a list failed; carries the other answers.
            LLMError: The single dialog failed.
        """
        given = batch.with_sessions(kwargs, session_ids)
        given_inputs, several = batch.as_inputs(inputs)
        if several:
            return self._complete_many([as_dialog(one) for one in given_inputs], given, _text)
        return self._complete(as_dialog(given_inputs), given).text

    @overload
    def complete(self, inputs: str | Dialog, **kwargs: Unpack[CallKwargs]) -> Completion: ...
    @overload
    def complete(self, inputs: Prompts | Dialogs, **kwargs: Unpack[CallKwargs]) -> list[Completion]: ...
    def complete(
        self, inputs: Input | Prompts | Dialogs, **kwargs: Unpack[CallKwargs]
    ) -> Completion | list[Completion]:
        """`generate` (a prompt) or `chat` (messages), returning the answer with its details.

        Args:
            inputs: A prompt, messages, or a list of either.
            **kwargs: As for `generate`. With ``n=3`` each input is answered three times, by requests that run
                concurrently: see `Completion.choices`.

        Returns:
            A `Completion`, or a list of them in the order of `inputs`.
        """
        given, several = batch.as_inputs(inputs)
        n = self.answers_per_input(kwargs)
        if n == 1 and not several:
            return self._complete(given, kwargs)
        outcomes = self._outcomes(given if several else [given], kwargs, n)
        return batch.gather(outcomes, _whole) if several else batch.only(outcomes)

    def stream_generate(self, inputs: str, **kwargs: Unpack[CallKwargs]) -> Stream:
        """Continue a prompt, chunk by chunk.

        Returns:
            An iterator of `StreamChunk`, each unpacking to (status, text so far, generated tokens or None);
            closing it or leaving the loop stops the generation.

        Raises:
            LLMError: Bad input, at once; while iterating, any failure of the call. With
                ``on_error='status'`` the last chunk reports it instead.
        """
        return self._stream(batch.check_prompt(inputs), kwargs)

    def stream_chat(self, inputs: Dialog, **kwargs: Unpack[CallKwargs]) -> Stream:
        """Answer a dialog, chunk by chunk; see `stream_generate`."""
        return self._stream(as_dialog(inputs), kwargs)

    def stream_text(self, inputs: Input, **kwargs: Unpack[CallKwargs]) -> TextStream:
        """Stream only the new text of each step, for a prompt (str) or messages."""
        return TextStream(self._stream(inputs, kwargs))

    @overload
    def tokenize(self, prompts: str) -> list[int]: ...
    @overload
    def tokenize(self, prompts: Prompts) -> list[list[int]]: ...
    def tokenize(self, prompts: str | Prompts) -> list[int] | list[list[int]]:
        """The token ids of a prompt, or of each of several, as the model gets them."""
        self.check_open()
        given = batch.check_prompts(prompts, encodable=True)
        if isinstance(given, str):
            return repeat(self.attempts(), lambda: self._tokenize(given))
        return [repeat(self.attempts(), partial(self._tokenize, prompt)) for prompt in given]

    def close(self) -> None:
        """Free the backend's resources. Later calls fail; closing twice is no error."""
        self.closed = True
        if not self._runs_in_parent:
            self._free()
        self.close_stores()

    def _free(self) -> None:
        """Free the backend's resources; may be called more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, inputs: Input, given: Any) -> Stream:
        return Stream(self, self._start, self.prepare_stream(inputs, given))

    def _start(self, request: Request) -> Source:
        if self.session_len is not None and (count := self._prompt_tokens(request)) is not None:
            self.check_length(request, count)
        return self._open(request)

    def _prompt_tokens(self, request: Request) -> int | None:
        """The number of prompt tokens to check against `session_len`; None when it fits in any case."""
        prompt = self.to_count(request)
        return None if prompt is None else len(self._tokenize(prompt))

    def raising_stream(self, inputs: Input, given: Mapping[str, Any], place: Place | None = None) -> Stream:
        """The stream of one call, which raises every error; `place` is that of the prompt in its batch."""
        return Stream(self, self._start, self.prepare(inputs, given), raises=True, place=place)

    def _complete(self, inputs: Input, given: Any) -> Completion:
        return self.raising_stream(inputs, given).drain()

    def _complete_many(
        self, inputs: Sequence[Input], given: Any, pick: Callable[[Completion], _T]
    ) -> list[_T]:
        return batch.gather(self._outcomes(inputs, given), pick)

    def _outcomes(self, inputs: Sequence[Input], given: Any, n: int = 1) -> Sequence[Completion | Exception]:
        calls = batch.split(inputs, given)
        if n > 1:
            calls = batch.repeated(calls, n, self.merged)
        calls = self.check_batch(calls)
        outcomes = complete_all(admission_of(self, given), calls, self.raising_stream)
        return outcomes if n == 1 else batch.together(outcomes, n)


class AsyncBaseLLM(AsyncHoldsSessions, AsyncParsingLLM):
    """A language model, called with await. Its methods are those of `BaseLLM`."""

    @abstractmethod
    async def _open(self, request: Request) -> AsyncSource:
        """Start one generation and return the source of its pieces."""

    @abstractmethod
    async def _tokenize(self, text: str) -> list[int]:
        """The token ids of `text` as a prompt of the model."""

    @overload
    async def generate(
        self, inputs: str, session_ids: int | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> str: ...
    @overload
    async def generate(
        self, inputs: Prompts, session_ids: int | Sequence[int] | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> list[str]: ...
    async def generate(
        self,
        inputs: str | Prompts,
        session_ids: int | Sequence[int] | None = None,
        **kwargs: Unpack[CallKwargs],
    ) -> str | list[str]:
        """See `BaseLLM.generate`."""
        prompts, given = batch.check_prompts(inputs), batch.with_sessions(kwargs, session_ids)
        if isinstance(prompts, str):
            return (await self._complete(prompts, given)).text
        return await self._complete_many(prompts, given, _text)

    @overload
    async def chat(
        self, inputs: Dialog, session_ids: int | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> str: ...
    @overload
    async def chat(
        self, inputs: Dialogs, session_ids: int | Sequence[int] | None = ..., **kwargs: Unpack[CallKwargs]
    ) -> list[str]: ...
    async def chat(
        self,
        inputs: Dialog | Dialogs,
        session_ids: int | Sequence[int] | None = None,
        **kwargs: Unpack[CallKwargs],
    ) -> str | list[str]:
        """See `BaseLLM.chat`."""
        given = batch.with_sessions(kwargs, session_ids)
        given_inputs, several = batch.as_inputs(inputs)
        if several:
            return await self._complete_many([as_dialog(one) for one in given_inputs], given, _text)
        return (await self._complete(as_dialog(given_inputs), given)).text

    @overload
    async def complete(self, inputs: str | Dialog, **kwargs: Unpack[CallKwargs]) -> Completion: ...
    @overload
    async def complete(self, inputs: Prompts | Dialogs, **kwargs: Unpack[CallKwargs]) -> list[Completion]: ...
    async def complete(
        self, inputs: Input | Prompts | Dialogs, **kwargs: Unpack[CallKwargs]
    ) -> Completion | list[Completion]:
        """See `BaseLLM.complete`."""
        given, several = batch.as_inputs(inputs)
        n = self.answers_per_input(kwargs)
        if n == 1 and not several:
            return await self._complete(given, kwargs)
        outcomes = await self._outcomes(given if several else [given], kwargs, n)
        return batch.gather(outcomes, _whole) if several else batch.only(outcomes)

    def stream_generate(self, inputs: str, **kwargs: Unpack[CallKwargs]) -> AsyncStream:
        """See `BaseLLM.stream_generate`; iterate with ``async for``."""
        return self._stream(batch.check_prompt(inputs), kwargs)

    def stream_chat(self, inputs: Dialog, **kwargs: Unpack[CallKwargs]) -> AsyncStream:
        """See `BaseLLM.stream_chat`; iterate with ``async for``."""
        return self._stream(as_dialog(inputs), kwargs)

    def stream_text(self, inputs: Input, **kwargs: Unpack[CallKwargs]) -> AsyncTextStream:
        """See `BaseLLM.stream_text`; iterate with ``async for``."""
        return AsyncTextStream(self._stream(inputs, kwargs))

    @overload
    async def tokenize(self, prompts: str) -> list[int]: ...
    @overload
    async def tokenize(self, prompts: Prompts) -> list[list[int]]: ...
    async def tokenize(self, prompts: str | Prompts) -> list[int] | list[list[int]]:
        """See `BaseLLM.tokenize`."""
        self.check_open()
        given = batch.check_prompts(prompts, encodable=True)
        if isinstance(given, str):
            return await repeat_async(self.attempts(), lambda: self._tokenize(given))
        return [await repeat_async(self.attempts(), partial(self._tokenize, prompt)) for prompt in given]

    async def aclose(self) -> None:
        """Free the backend's resources. Later calls fail; closing twice is no error."""
        self.closed = True
        if not self._runs_in_parent:
            await self._free()
        if self.recorder is not None:
            import asyncio  # here, to keep the package's import fast

            await asyncio.to_thread(self.close_stores)

    async def _free(self) -> None:
        """Free the backend's resources; may be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _stream(self, inputs: Input, given: Any) -> AsyncStream:
        return AsyncStream(self, self._start, self.prepare_stream(inputs, given))

    async def _start(self, request: Request) -> AsyncSource:
        if self.session_len is not None and (count := await self._prompt_tokens(request)) is not None:
            self.check_length(request, count)
        return await self._open(request)

    async def _prompt_tokens(self, request: Request) -> int | None:
        """See `BaseLLM._prompt_tokens`."""
        prompt = self.to_count(request)
        return None if prompt is None else len(await self._tokenize(prompt))

    def raising_stream(
        self, inputs: Input, given: Mapping[str, Any], place: AsyncPlace | None = None
    ) -> AsyncStream:
        """See `BaseLLM.raising_stream`."""
        return AsyncStream(self, self._start, self.prepare(inputs, given), raises=True, place=place)

    async def _complete(self, inputs: Input, given: Any, place: AsyncPlace | None = None) -> Completion:
        return await self.raising_stream(inputs, given, place).drain()

    async def _complete_many(
        self, inputs: Sequence[Input], given: Any, pick: Callable[[Completion], _T]
    ) -> list[_T]:
        return batch.gather(await self._outcomes(inputs, given), pick)

    async def _outcomes(
        self, inputs: Sequence[Input], given: Any, n: int = 1
    ) -> Sequence[Completion | Exception]:
        import asyncio  # here, to keep the package's import fast

        calls = batch.split(inputs, given)
        if n > 1:
            calls = batch.repeated(calls, n, self.merged)
        calls = self.check_batch(calls)
        gate = AsyncGate(admission_of(self, given))

        async def outcome(call: tuple[Input, Mapping[str, Any]]) -> Completion | Exception:
            async with gate.place() as place:
                try:
                    return await self._complete(*call, place)
                except Exception as error:  # noqa: BLE001  (carried by BatchError, with its index)
                    return error

        outcomes = await asyncio.gather(*map(outcome, calls))
        return outcomes if n == 1 else batch.together(outcomes, n)


def _whole(completion: Completion) -> Completion:
    return completion
