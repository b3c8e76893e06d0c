"""One OpenTelemetry span for each call, if the application traces.

Names and attributes follow the semantic conventions for generative AI clients
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). Prompts and answers are never recorded. There is no
switch: an application that traces has imported and configured opentelemetry itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ..schema import Completion
    from .llm import LLMCore
    from .request import Request

__all__ = ["MODULE", "CallSpan", "begin"]

#: The module that an application which traces has imported.
MODULE = "opentelemetry.trace"


class CallSpan:
    """The span of one call.

    Args:
        span: A span that records.
    """

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, completion: Completion | None, error: BaseException | None) -> None:
        """End the span: with the answer, with the error, or with neither when the call was left early."""
        if completion is not None:
            self._span.set_attribute("gen_ai.response.finish_reasons", [completion.finish_reason])
            if completion.cached:
                self._span.set_attribute("lagent_llms.cached", True)
            if completion.usage is not None:
                self._span.set_attribute("gen_ai.usage.input_tokens", completion.usage.prompt_tokens)
                self._span.set_attribute("gen_ai.usage.output_tokens", completion.usage.completion_tokens)
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(StatusCode.ERROR, str(error))
        self._span.end()


def begin(llm: LLMCore, request: Request) -> CallSpan | None:
    """Begin the span of a call, a child of the current one; None unless it would be recorded."""
    trace = sys.modules.get(MODULE)
    if trace is None:
        return None
    operation = "text_completion" if request.messages is None else "chat"
    model = _model(llm)
    span = trace.get_tracer(__name__).start_span(
        f"{operation} {model}".strip(), kind=trace.SpanKind.CLIENT, attributes=_attributes(llm, request)
    )
    if not span.is_recording():
        return None
    span.set_attribute("gen_ai.operation.name", operation)
    if model:
        span.set_attribute("gen_ai.request.model", model)
    return CallSpan(span)


def _model(llm: LLMCore) -> str:
    """The model's name as the backend knows it, '' when the server decides."""
    path = getattr(llm, "path", None)
    return str(getattr(llm, "model_name", None) or getattr(path, "name", None) or "")


def _attributes(llm: LLMCore, request: Request) -> dict[str, Any]:
    params, options = request.params, request.options
    asked = {
        "gen_ai.provider.name": type(llm).__name__.removeprefix("Async"),
        "gen_ai.request.max_tokens": params.max_new_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k,
        "gen_ai.request.seed": params.seed,
        "gen_ai.request.stop_sequences": request.stop_words or None,
        "gen_ai.conversation.id": None if options.stateless else str(options.session_id),
    }
    return {name: value for name, value in asked.items() if value is not None}
