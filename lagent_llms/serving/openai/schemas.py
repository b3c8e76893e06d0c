"""Request bodies of the OpenAI-compatible routes, converted to keyword arguments of `AsyncBaseLLM`. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ... import validators
from ...errors import InvalidArgument
from ..request_bodies import at_most, encodable, refuse_unknown_fields

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "Messages",
    "PassedObject",
    "StreamOptions",
    "TokenizeRequest",
    "Tools",
    "check_max_new_tokens",
    "stop_words",
]

#: Most stop words of a request, and most characters of all of them. OpenAI allows 4 words.
MAX_STOP_WORDS, MAX_STOP_CHARACTERS = 128, 16_384

#: Most messages, tools and prompts of a request.
MAX_MESSAGES, MAX_TOOLS, MAX_PROMPTS = 10_000, 1_000, 10_000

#: Unsupported fields, accepted only with a value that changes nothing.
_NO_OP: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
}
#: Fields that change no response; ignored.
_IGNORED = frozenset(
    (
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    )
)


#: An object passed on as it is, to the chat template or to a remote server.
PassedObject = Annotated[dict[str, Any], AfterValidator(encodable)]
Messages = Annotated[list[PassedObject], BeforeValidator(at_most(MAX_MESSAGES, "messages"))]
Tools = Annotated[list[PassedObject], BeforeValidator(at_most(MAX_TOOLS, "tools"))]


class _TemplateRequest(BaseModel):
    """Fields for the chat template, with vLLM's names and meanings."""

    tools: Tools | None = None
    chat_template_kwargs: PassedObject | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    def template_keywords(self) -> dict[str, Any]:
        """Convert the fields, but `tools`, to keyword arguments of `AsyncBaseLLM.complete`.

        Raises:
            InvalidArgument: The prompt would have both an open message and a generation prompt, or neither.
        """
        opened = bool(self.continue_final_message)
        if self.add_generation_prompt is opened:
            raise InvalidArgument(
                f"add_generation_prompt={opened} with continue_final_message={opened}: only one of them "
                "can be true, and one must be",
                argument="add_generation_prompt",
            )
        keywords: dict[str, Any] = {"continue_final_message": True} if opened else {}
        if self.chat_template_kwargs:
            keywords["chat_template_kwargs"] = self.chat_template_kwargs
        return keywords


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    include_usage: bool = False


class _GenerationRequest(BaseModel):
    """Fields of both completion routes; those that OpenAI lacks have the names of `GenerationParams`."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_tokens: int | None = Field(default=None, ge=0)
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: PassedObject | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def _common_keywords(self, max_tokens: int | None) -> dict[str, Any]:
        refuse_unknown_fields(self.model_extra, _IGNORED, _NO_OP)
        keywords = {
            "max_new_tokens": max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "min_new_tokens": self.min_tokens,
            "logit_bias": self.logit_bias,
            "seed": self.seed,
            "stop_words": stop_words("stop", self.stop or None),
            "ignore_eos": self.ignore_eos,
            "skip_special_tokens": self.skip_special_tokens,
        }
        given: dict[str, Any] = {name: value for name, value in keywords.items() if value is not None}
        if "top_k" in self.model_fields_set:  # null means no filter, as vLLM's 0 and -1 do
            given["top_k"] = self.top_k if self.top_k and self.top_k > 0 else None
        if self.response_format is not None and self.response_format.get("type") != "text":
            given["response_format"] = self.response_format
        return given

    @property
    def include_usage(self) -> bool:
        """True if the last chunk of a stream reports the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


def stop_words(field: str, stop: str | list[str] | None) -> tuple[str, ...] | None:
    """Check the stop words of a request.

    Args:
        field: Their name in the request.
        stop: Its value.

    Raises:
        InvalidArgument: There are too many, or one is empty.
    """
    words = validators.stop_words(field, stop)
    for given, most, unit in (
        (len(words or ()), MAX_STOP_WORDS, "stop words"),
        (sum(map(len, words or ())), MAX_STOP_CHARACTERS, "characters in all stop words together"),
    ):
        if given > most:
            raise InvalidArgument(f"{field}: {given} {unit}: allowed are at most {most}", argument=field)
    return words


class CompletionRequest(_GenerationRequest):
    """The body of POST /v1/completions."""

    prompt: Annotated[str | list[str], BeforeValidator(at_most(MAX_PROMPTS, "prompts"))]
    logprobs: int | None = None

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """Convert the fields to keyword arguments of `AsyncBaseLLM.complete`.

        Args:
            context_len: The upper limit of ``max_tokens``, in tokens; None is no limit.

        Raises:
            InvalidArgument: A field is unknown, unsupported or out of range.
        """
        check_max_new_tokens(self.max_tokens, context_len, field="max_tokens")
        keywords = self._common_keywords(self.max_tokens)
        return keywords if self.logprobs is None else {**keywords, "logprobs": self.logprobs}

    def prompts(self) -> list[str]:
        """The prompts, as a list of one or more.

        Raises:
            InvalidArgument: The list or a prompt is empty, or a stream has several prompts.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not prompts:
            raise InvalidArgument("prompt: the list of prompts is empty", argument="prompt")
        if "" in prompts:
            raise InvalidArgument(f"prompt[{prompts.index('')}]: the prompt is empty", argument="prompt")
        if self.stream and len(prompts) > 1:
            raise InvalidArgument(
                f"prompt: {len(prompts)} prompts with stream=true: allowed is one", argument="prompt"
            )
        return prompts


class TokenizeRequest(_TemplateRequest):
    """The body of POST /tokenize: a prompt, or messages to which the chat template is applied."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None

    def inputs(self) -> str | list[dict[str, Any]]:
        """The prompt, or the messages as text.

        Raises:
            InvalidArgument: Both fields were given, or neither; a content part is not text.
        """
        given = [value for value in (self.prompt, self.messages) if value is not None]
        if len(given) != 1:
            raise InvalidArgument("give either prompt or messages", argument="prompt")
        (found,) = given
        return found if isinstance(found, str) else _as_text(found)


class ChatCompletionRequest(_GenerationRequest, _TemplateRequest):
    """The body of POST /v1/chat/completions.

    ``calls_in_content`` is no field of OpenAI's: true leaves tool calls in the content as well.
    """

    messages: Messages = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tool_choice: Annotated[str | dict[str, Any], AfterValidator(encodable)] | None = None
    calls_in_content: bool = False

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """Convert the fields to keyword arguments of `AsyncBaseLLM.complete`.

        Args:
            context_len: The upper limit of ``max_tokens``, in tokens; None is no limit.

        Raises:
            InvalidArgument: A field is unknown, unsupported or out of range.
        """
        field = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        max_tokens: int | None = getattr(self, field)
        check_max_new_tokens(max_tokens, context_len, field=field)
        keywords = self._common_keywords(max_tokens) | self.template_keywords()
        if self.logprobs:
            keywords["logprobs"] = validators.logprobs("top_logprobs", self.top_logprobs or 0)
        elif self.top_logprobs:
            raise InvalidArgument("top_logprobs: needs logprobs=true", argument="top_logprobs")
        if self.tools and self.tool_choice != "none":
            keywords["tools"] = self.tools
        if self.tool_choice not in (None, "auto", "none"):
            keywords["tool_choice"] = self.tool_choice
        return keywords

    def text_messages(self) -> list[dict[str, Any]]:
        """The messages, with each list of text parts joined to one string.

        Raises:
            InvalidArgument: A content part is not text.
        """
        return _as_text(self.messages)


def _as_text(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": _text(message.get("content"), index)} for index, message in enumerate(messages)
    ]


def _text(content: Any, index: int) -> Any:
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidArgument(
                f"messages[{index}].content: only text parts are allowed, got {part!r}"[:200],
                argument="messages",
            )
        texts.append(part["text"])
    return "".join(texts)


def check_max_new_tokens(
    value: int | None, context_len: int | None, *, field: str = "max_new_tokens"
) -> None:
    """Refuse a token limit that no prompt leaves room for.

    A limit that fits the context but not the context after the prompt is accepted: the answer then ends with
    the finish reason 'length'.

    Args:
        value: The most tokens to generate; None is always accepted.
        context_len: The model's context length, in tokens; None is unknown.
        field: The name in the error message.

    Raises:
        InvalidArgument: `value` is below 1 or above `context_len`.
    """
    if value is None:
        return
    if value < 1:
        raise InvalidArgument(f"{field}={value}: allowed is an integer of 1 or more (tokens)", argument=field)
    if context_len is not None and value > context_len:
        raise InvalidArgument(
            f"{field}={value}: allowed are 1 to {context_len}, the model's context length (tokens)",
            argument=field,
        )
