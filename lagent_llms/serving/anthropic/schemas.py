"""The bodies of Anthropic's Messages API, converted to keyword arguments of `AsyncBaseLLM`. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ... import validators
from ...errors import InvalidArgument
from ..openai.schemas import MAX_STOP_WORDS, Messages, PassedObject, Tools, check_max_new_tokens, stop_words
from ..request_bodies import at_most, encodable, refuse_unknown_fields

__all__ = ["CountTokensRequest", "MessagesRequest"]

#: Unsupported fields, accepted only with a value that changes nothing.
_NO_OP: dict[str, tuple[Any, ...]] = {"container": (), "mcp_servers": ([],), "context_management": ({},)}
#: Fields that change no response here; ignored.
_IGNORED = frozenset(
    (
        *("metadata", "service_tier", "cache_control", "diagnostics", "inference_geo", "speed", "thinking"),
        *("user_profile_id", "workspace_id"),
    )
)


class CountTokensRequest(BaseModel):
    """The body of POST /v1/messages/count_tokens.

    ``thinking`` is ignored: the served model decides whether it reasons.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1)
    messages: Messages = Field(min_length=1)
    system: Annotated[str | list[PassedObject], AfterValidator(encodable)] | None = None
    tools: Tools | None = None
    tool_choice: PassedObject | None = None
    output_config: PassedObject | None = None
    chat_template_kwargs: PassedObject | None = None

    def template_keywords(self) -> dict[str, Any]:
        """Convert the fields that make the prompt to keyword arguments of `AsyncBaseLLM.complete`.

        Raises:
            InvalidArgument: A field is unknown or unsupported.
        """
        refuse_unknown_fields(self.model_extra, _IGNORED, _NO_OP)
        keywords: dict[str, Any] = {}
        tools = [_tool(tool, index) for index, tool in enumerate(self.tools or ())]
        kind = None if self.tool_choice is None else self.tool_choice.get("type")
        if tools and kind != "none":
            keywords["tools"] = tools
        if self.messages[-1].get("role") == "assistant":  # the answer continues it
            keywords["continue_final_message"] = True
        if self.chat_template_kwargs:
            keywords["chat_template_kwargs"] = self.chat_template_kwargs
        return keywords


class MessagesRequest(CountTokensRequest):
    """The body of POST /v1/messages."""

    max_tokens: int
    stop_sequences: Annotated[list[str], BeforeValidator(at_most(MAX_STOP_WORDS, "stop words"))] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def keywords(self, context_len: int | None = None) -> dict[str, Any]:
        """Convert the fields to keyword arguments of `AsyncBaseLLM.complete`.

        Args:
            context_len: The model's context length, in tokens; None is unknown. A larger ``max_tokens`` is
                reduced to it: the field is required, and clients send the limit of Anthropic's models.

        Raises:
            InvalidArgument: A field is unknown, unsupported or out of range.
        """
        most = self.max_tokens if context_len is None else min(self.max_tokens, context_len)
        check_max_new_tokens(most, context_len, field="max_tokens")
        keywords: dict[str, Any] = {
            "max_new_tokens": most,
            "stop_words": stop_words("stop_sequences", self.stop_sequences or None),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "tool_choice": self._tool_choice(),
            "response_format": self._response_format(),
        }
        given = {name: value for name, value in keywords.items() if value is not None}
        return given | self.template_keywords()

    def _tool_choice(self) -> str | dict[str, Any] | None:
        choice = self.tool_choice or {"type": "auto"}
        kind = choice.get("type")
        if kind == "tool" and isinstance(choice.get("name"), str):
            return {"type": "function", "function": {"name": choice["name"]}}
        if kind not in ("auto", "none", "any"):
            raise InvalidArgument(
                f"tool_choice={validators.shown(choice)}: the type is one of 'auto', 'none', 'any', and "
                "'tool' with a name",
                argument="tool_choice",
            )
        return "required" if kind == "any" else None

    def _response_format(self) -> dict[str, Any] | None:
        given = (self.output_config or {}).get("format")
        if given is None:
            return None
        if not isinstance(given, dict) or given.get("type") != "json_schema":
            raise InvalidArgument(
                f"output_config.format={validators.shown(given)}: allowed is {{'type': 'json_schema', …}}",
                argument="output_config",
            )
        return {"type": "json_schema", "json_schema": {"name": "output", "schema": given.get("schema")}}


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    """A tool in the form of /v1/chat/completions."""
    if tool.get("type") not in (None, "custom"):
        raise InvalidArgument(
            f"tools[{index}].type={validators.shown(tool['type'])}: allowed is 'custom'; tools of Anthropic "
            "are not available here",
            argument="tools",
        )
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    return {"type": "function", "function": function}
