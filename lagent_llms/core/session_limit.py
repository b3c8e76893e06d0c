"""The limit ``session_len`` of a backend: history, prompt and answer together. Pure."""

from __future__ import annotations

from ..errors import SessionOutOfLimit, UnsupportedParameter
from .request import Request

__all__ = ["LimitsSessions"]

#: Most tokens that a tokenizer puts around a text (BOS, EOS, a space).
_AROUND_A_PROMPT = 4


class LimitsSessions:
    """Checks requests against `session_len`.

    Attributes:
        session_len: Most tokens of history, prompt and answer together; None leaves the limit to the model.
    """

    session_len: int | None

    def to_count(self, request: Request) -> str | None:
        """The prompt whose tokens must be counted, None when it fits the session whatever their number.

        A token is at least one byte, except for the few that a tokenizer puts around a text.

        Raises:
            UnsupportedParameter: The server renders the prompt, so it cannot be counted here.
        """
        if self.session_len is None:
            return None
        if request.prompt is None:
            raise UnsupportedParameter(
                f"{type(self).__name__} cannot honour session_len={self.session_len} for messages without a "
                "meta_template: the server makes the prompt of them",
                parameter="session_len",
                backend=type(self).__name__,
            )
        most = (
            len(request.prompt.encode("utf-8", "surrogatepass"))
            + _AROUND_A_PROMPT
            + request.params.max_new_tokens
        )
        return request.prompt if most > self.session_len else None

    def check_length(self, request: Request, prompt_tokens: int) -> None:
        """Refuse a request that would outgrow the session.

        Raises:
            SessionOutOfLimit: history + prompt + max_new_tokens > session_len.
        """
        if self.session_len is None:
            return
        asked = request.params.max_new_tokens
        if prompt_tokens + asked > self.session_len:
            raise SessionOutOfLimit(
                f"{prompt_tokens} tokens of history and prompt + max_new_tokens={asked} exceed "
                f"session_len={self.session_len}",
                session_id=request.options.session_id,
            )
