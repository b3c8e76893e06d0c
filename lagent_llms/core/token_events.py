"""What an engine in this process takes and reports, token by token, and its conversion to pieces."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ..errors import ContextLengthExceeded, InvalidArgument, LLMError
from ..schema import Piece, TokenLogprob, Usage
from .request import Request

__all__ = [
    "EndReason",
    "TokenDecoder",
    "TokenEvent",
    "TokenLogprobs",
    "TokenText",
    "Tokenizer",
    "check_prompt_ids",
    "truncate",
]

EndReason: TypeAlias = Literal["stop", "length", "cancelled"]


class TokenLogprobs(NamedTuple):
    """Log-probabilities at the position of one generated token, under the model before any filter.

    Attributes:
        token_id: The generated token.
        logprob: Log-probability of the generated token.
        top: Most probable tokens as (token id, log-probability), in descending order.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """Event of one request.

    Attributes:
        token_ids: New tokens, without the end token.
        logprobs: Log-probabilities of each new token, () if not requested.
        finish_reason: 'stop' (an end token), 'length' or 'cancelled' on the last event; None before, and on
            an error.
        end_token: The generated end token, with 'stop'.
        error: Error that ended the request; the last event.
        cached_tokens: Number of prompt tokens whose keys and values were reused.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: EndReason | None = None
    end_token: int | None = None
    error: Exception | None = None
    cached_tokens: int = 0


def check_prompt_ids(prompt: Sequence[int], max_len: int | None) -> list[int]:
    """Check that a prompt leaves room for an answer.

    Args:
        prompt: Token ids.
        max_len: Longest prompt and answer together, in tokens; None for no limit.

    Returns:
        The token ids as a list of int.

    Raises:
        InvalidArgument: The prompt is empty.
        ContextLengthExceeded: The prompt has `max_len` tokens or more.
    """
    tokens = [int(token) for token in prompt]
    if not tokens:
        raise InvalidArgument("prompt_ids is empty: at least one token is needed", argument="prompt_ids")
    if max_len is not None and len(tokens) >= max_len:
        raise ContextLengthExceeded(
            f"the prompt has {len(tokens)} tokens, which leaves no room for an answer: "
            f"max_len is {max_len} tokens"
        )
    return tokens


def truncate(
    tokens: Sequence[int], limit: int, end_tokens: Collection[int]
) -> tuple[tuple[int, ...], int | None, EndReason | None]:
    """Truncate new tokens where the answer ends.

    Args:
        tokens: New token ids.
        limit: Largest number of tokens that the answer may still get.
        end_tokens: Token ids that end the answer.

    Returns:
        The tokens of the answer, the end token or None, and the finish reason or None.
    """
    new = tuple(tokens[:limit])
    end = next((index for index, token in enumerate(new) if token in end_tokens), None)
    if end is not None:
        return new[:end], new[end], "stop"
    return new, None, "length" if len(tokens) >= limit else None


class TokenText(Protocol):
    """Incremental decoder of one answer."""

    def feed(self, ids: Iterable[int], /) -> str:
        """The text that further ids complete."""

    def flush(self) -> str:
        """The text of ids that were held back, at the end of the answer."""


class Tokenizer(Protocol):
    """What the tokenizer of an engine must have.

    Attributes:
        bos_token: Text of the beginning-of-sequence token, None if there is none.
    """

    bos_token: str | None

    def encode(self, text: str, add_bos: bool = ...) -> list[int]:
        """The token ids of a text, with a BOS only if `add_bos` and the model expects one."""

    def decode(self, ids: list[int], skip_special_tokens: bool = ...) -> str:
        """The text of token ids."""

    def stream(self, skip_special_tokens: bool = ...) -> TokenText:
        """A decoder for one answer."""


class TokenDecoder:
    """Converts the events of one request to pieces.

    Args:
        tokenizer: The engine's tokenizer.
        request: The request.
        prompt_tokens: Number of tokens of its prompt.
    """

    def __init__(self, tokenizer: Tokenizer, request: Request, prompt_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._text = tokenizer.stream(skip_special_tokens=request.params.skip_special_tokens)
        self._stop_words = request.stop_words
        self._prompt_tokens = prompt_tokens
        self._n_tokens = 0

    def piece(self, event: TokenEvent) -> Piece | None:
        """Convert one event; None if the request was cancelled.

        Raises:
            LLMError: The engine failed.
        """
        if event.error is not None:
            raise LLMError(f"the engine failed: {event.error}") from event.error
        if event.finish_reason == "cancelled":
            return None
        self._n_tokens += len(event.token_ids)
        text = self._text.feed(event.token_ids)
        if event.finish_reason is not None:
            text += self._text.flush()
        return Piece(
            text=text,
            token_ids=event.token_ids,
            n_tokens=self._n_tokens,
            finish_reason=event.finish_reason,
            stop_word=self._stop_word(event),
            usage=Usage(self._prompt_tokens, self._n_tokens, event.cached_tokens),
            logprobs=tuple(self._logprob(item) for item in event.logprobs),
        )

    def _stop_word(self, event: TokenEvent) -> str | None:
        """Text of the end token, if it is one of the request's stop words."""
        if event.end_token is None:
            return None
        text = self._token_text(event.end_token)
        return text if text in self._stop_words else None

    def _logprob(self, item: TokenLogprobs) -> TokenLogprob:
        top = tuple((self._token_text(token), token, logprob) for token, logprob in item.top)
        return TokenLogprob(self._token_text(item.token_id), item.token_id, item.logprob, top)

    def _token_text(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special_tokens=False)
