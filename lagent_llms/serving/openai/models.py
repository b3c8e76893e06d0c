"""What OpenAI-style requests may hold, and the keywords of `BaseLLM` they come to. Pure."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ...errors import InvalidArgument

__all__ = ["ChatBody", "CompletionBody", "StreamOptions", "TokenizeBody", "check_max_new_tokens"]

_T = TypeVar("_T")

# Fields that ask for nothing of ours at this value; any other value is refused, never dropped without a word.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
}
# Fields that change no answer.
_NOTES = frozenset(
    (
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    )
)


def _text_only(item: _T) -> _T:
    """`item`, whose texts can all be sent on: half of a surrogate pair (a cut emoji) cannot."""
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is half a character, which is no text") from None
    return item


#: An object of which the model's template, or another server, makes something.
_Passed = Annotated[dict[str, Any], AfterValidator(_text_only)]


class StreamOptions(BaseModel):
    """What a stream carries beside the text."""

    include_usage: bool = False


class _Body(BaseModel):
    """Fields of both routes. Those OpenAI has no name for are the ones of `GenerationParams`."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def _common(self, context_len: int | None, max_tokens: int | None) -> dict[str, Any]:
        check_max_new_tokens(max_tokens, context_len)
        for name, value in (self.model_extra or {}).items():
            if value is None or name in _NOTES or value in _NEUTRAL.get(name, ()):
                continue
            if name in _NEUTRAL:
                raise InvalidArgument(
                    f"{name}={value!r} cannot be honoured: allowed is {_NEUTRAL[name][0]!r}", argument=name
                )
            raise InvalidArgument(f"unknown field {name!r}", argument=name)
        given = {
            "max_new_tokens": max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "stop_words": self.stop or None,
            "ignore_eos": self.ignore_eos,
            "skip_special_tokens": self.skip_special_tokens,
        }
        found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if "top_k" in self.model_fields_set:  # here null is a value: no filter; so are vLLM's 0 and -1
            found["top_k"] = self.top_k if self.top_k and self.top_k > 0 else None
        return found

    @property
    def usage_in_stream(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionBody(_Body):
    """POST /v1/completions."""

    prompt: str | list[str]
    logprobs: int | None = None

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """The keywords of `AsyncBaseLLM.complete`.

        Args:
            context_len: Most tokens that can be asked for, None when that is unknown.

        Raises:
            InvalidArgument: A field that cannot be honoured.
        """
        given = self._common(context_len, self.max_tokens)
        return given if self.logprobs is None else {**given, "logprobs": self.logprobs}

    def prompts(self) -> list[str]:
        """The prompts, one or more.

        Raises:
            InvalidArgument: There is none, one is empty, or a stream was asked for several.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not prompts:
            raise InvalidArgument("prompt: the list of prompts is empty", argument="prompt")
        if "" in prompts:
            raise InvalidArgument(f"prompt[{prompts.index('')}]: the prompt is empty", argument="prompt")
        if self.stream and len(prompts) > 1:
            raise InvalidArgument(
                "prompt: a stream answers one prompt, several were given", argument="prompt"
            )
        return prompts


class TokenizeBody(BaseModel):
    """POST /tokenize: a prompt, or messages of which the model's template makes one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: str | None = None
    messages: list[_Passed] | None = None
    tools: list[_Passed] | None = None

    def inputs(self) -> str | list[dict[str, Any]]:
        """The one that was given.

        Raises:
            InvalidArgument: Both or none were.
        """
        given = [one for one in (self.prompt, self.messages) if one is not None]
        if len(given) != 1:
            raise InvalidArgument("either prompt or messages is needed", argument="prompt")
        return given[0]


class ChatBody(_Body):
    """POST /v1/chat/completions."""

    messages: list[_Passed] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[_Passed] | None = None
    tool_choice: Annotated[str | dict[str, Any], AfterValidator(_text_only)] | None = None
    response_format: _Passed | None = None

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """The keywords of `AsyncBaseLLM.complete`.

        Args:
            context_len: Most tokens that can be asked for, None when that is unknown.

        Raises:
            InvalidArgument: A field that cannot be honoured.
        """
        asked = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        given = self._common(context_len, asked)
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        elif self.top_logprobs:
            raise InvalidArgument("top_logprobs: needs logprobs=true", argument="top_logprobs")
        if self.tools and self.tool_choice != "none":
            given["tools"] = self.tools
        if self.tool_choice not in (None, "auto", "none"):
            given["tool_choice"] = self.tool_choice
        if self.response_format is not None and self.response_format.get("type") != "text":
            given["response_format"] = self.response_format
        return given

    def dialog(self) -> list[dict[str, Any]]:
        """The messages, contents given as text parts joined to strings.

        Raises:
            InvalidArgument: A part that is no text.
        """
        return [
            {**message, "content": _text(message.get("content"), i)}
            for i, message in enumerate(self.messages)
        ]


def _text(content: Any, index: int) -> Any:
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidArgument(
                f"messages[{index}].content: only text parts are allowed, got {part!r}"[:200],
                argument="messages",
            )
        parts.append(part["text"])
    return "".join(parts)


def check_max_new_tokens(asked: int | None, context_len: int | None) -> None:
    """Refuse to promise an answer that no prompt leaves room for.

    An answer that its own prompt leaves less room for is told by its finish reason, 'length'.

    Raises:
        InvalidArgument: `asked` is more than the model's whole context.
    """
    if asked is not None and context_len is not None and asked > context_len:
        raise InvalidArgument(
            f"max_new_tokens={asked}: allowed are 1 to {context_len}, the model's context (tokens)",
            argument="max_new_tokens",
        )
