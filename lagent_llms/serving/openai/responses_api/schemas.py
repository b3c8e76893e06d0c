"""The body of POST /v1/responses, converted to messages and keyword arguments of `AsyncBaseLLM`. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from .... import validators
from ....errors import InvalidArgument
from ...request_bodies import at_most, encodable, refuse_unknown_fields
from ..schemas import MAX_MESSAGES, PassedObject, Tools, check_max_new_tokens, stop_words

__all__ = ["ResponsesRequest", "TextConfig"]

#: Unsupported fields, accepted only with a value that changes nothing.
_NO_OP: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "moderation": (),
    "top_logprobs": (0,),
}
#: Fields that change no response here; ignored.
_IGNORED = frozenset(
    (
        *("user", "service_tier", "stream_options", "max_tool_calls", "safety_identifier", "truncation"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    )
)
#: Fields that are passed on as they are.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


class TextConfig(BaseModel):
    """OpenAI's ``text``; its ``verbosity`` is ignored."""

    format: PassedObject | None = None


class ResponsesRequest(BaseModel):
    """The body of POST /v1/responses; the fields that OpenAI lacks have the names of /v1/chat/completions.

    ``parallel_tool_calls``, ``reasoning`` and ``metadata`` are repeated in the response and change nothing.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1)
    input: Annotated[
        str | list[PassedObject],
        BeforeValidator(at_most(MAX_MESSAGES, "items")),
        AfterValidator(encodable),
        Field(min_length=1),
    ]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    tools: Tools | None = None
    tool_choice: Annotated[str | dict[str, Any], AfterValidator(encodable)] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: PassedObject | None = None
    metadata: PassedObject | None = None
    include: list[str] | None = None
    chat_template_kwargs: PassedObject | None = None

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """Convert the fields to keyword arguments of `AsyncBaseLLM.complete`.

        Args:
            context_len: The upper limit of ``max_output_tokens``, in tokens; None is no limit.

        Raises:
            InvalidArgument: A field is unknown, unsupported or out of range.
        """
        refuse_unknown_fields(self.model_extra, _IGNORED, _NO_OP)
        if "message.output_text.logprobs" in (self.include or ()):
            raise InvalidArgument("include: log-probabilities are not supported here", argument="include")
        check_max_new_tokens(self.max_output_tokens, context_len, field="max_output_tokens")
        keywords: dict[str, Any] = {
            "max_new_tokens": self.max_output_tokens,
            "stop_words": stop_words("stop", self.stop or None),
            "chat_template_kwargs": self.chat_template_kwargs or None,
            "response_format": self._response_format(),
            **{name: getattr(self, name) for name in _SAMPLING},
        }
        tools = [_tool(tool, index) for index, tool in enumerate(self.tools or ())]
        if tools and self.tool_choice != "none":
            keywords["tools"] = tools
        keywords["tool_choice"] = self._tool_choice()
        return {name: value for name, value in keywords.items() if value is not None}

    def _tool_choice(self) -> str | dict[str, Any] | None:
        choice = self.tool_choice
        if isinstance(choice, dict):
            if choice.get("type") != "function":
                raise InvalidArgument(
                    f"tool_choice={validators.shown(choice)}: allowed are 'none', 'auto', 'required' and "
                    "{'type': 'function', 'name': …}",
                    argument="tool_choice",
                )
            return {"type": "function", "function": {"name": choice.get("name")}}
        return None if choice in ("auto", "none") else choice

    def _response_format(self) -> dict[str, Any] | None:
        given = None if self.text is None else self.text.format
        if given is None or given.get("type") == "text":
            return None
        if given.get("type") != "json_schema":
            return given
        return {"type": "json_schema", "json_schema": {key: given[key] for key in given if key != "type"}}


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    """A tool in the form of /v1/chat/completions."""
    if tool.get("type") != "function":
        raise InvalidArgument(
            f"tools[{index}].type={validators.shown(tool.get('type'))}: allowed is 'function'; tools that "
            "OpenAI runs are not available here",
            argument="tools",
        )
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in fields if tool.get(key) is not None}}
