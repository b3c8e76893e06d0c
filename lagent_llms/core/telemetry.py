"""One OpenTelemetry span for each call, and metrics of it, if the application uses OpenTelemetry.

Names and attributes follow the semantic conventions for generative AI clients
(https://github.com/open-telemetry/semantic-conventions-genai). There is no switch: an application that
traces, or collects metrics, has imported and configured opentelemetry itself. Prompts and answers are
recorded only if the environment variable `CAPTURE` asks for it.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..redaction import redact
from .usage import model_of

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span

    from ..schema import Completion
    from .llm import LLMCore
    from .request import Request
    from .usage import CallRecord

__all__ = [
    "CAPTURE",
    "DURATION_BUCKETS",
    "FIRST_CHUNK_BUCKETS",
    "METRICS",
    "MODULE",
    "TOKEN_BUCKETS",
    "CallSpan",
    "begin",
    "record",
]

#: The module that an application which traces has imported, and that of one which collects metrics.
MODULE, METRICS = "opentelemetry.trace", "opentelemetry.metrics"
#: Whether spans have prompts and answers: the conventions' variable, and the values that mean spans.
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_IN_SPANS = ("true", "span_only", "span_and_event")

#: The conventions' limits of buckets, in tokens and in seconds.
TOKEN_BUCKETS = tuple(4.0**exponent for exponent in range(14))
DURATION_BUCKETS = tuple(0.01 * 2**exponent for exponent in range(14))
FIRST_CHUNK_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip


class CallSpan:
    """The span of one call.

    Args:
        span: A span that records.
        secrets: What must not be recorded of contents, longest first; None records no contents.
    """

    __slots__ = ("_secrets", "_span")

    def __init__(self, span: Span, secrets: tuple[str, ...] | None) -> None:
        self._span, self._secrets = span, secrets

    def end(self, completion: Completion | None, error: BaseException | None) -> None:
        """End the span: with the answer, with the error, or with neither when the call was left early."""
        span = self._span
        if completion is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [completion.finish_reason])
            if completion.cached:
                span.set_attribute("lagent_llms.cached", True)
            if (usage := completion.usage) is not None:
                span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
                span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
                if usage.cached_tokens is not None:
                    span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
            if self._secrets is not None:
                from .span_contents import answer

                span.set_attribute("gen_ai.output.messages", redact(answer(completion), self._secrets))
        if error is not None:
            from opentelemetry.trace import StatusCode

            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR, str(error))
        span.end()


def begin(llm: LLMCore, request: Request) -> CallSpan | None:
    """Begin the span of a call, a child of the current one; None unless it would be recorded."""
    trace = sys.modules.get(MODULE)
    if trace is None:
        return None
    operation = "text_completion" if request.messages is None else "chat"
    model = model_of(llm, request)
    span = trace.get_tracer(__name__).start_span(
        f"{operation} {model}".strip(), kind=trace.SpanKind.CLIENT, attributes=_attributes(llm, request)
    )
    if not span.is_recording():
        return None
    span.set_attribute("gen_ai.operation.name", operation)
    if model:
        span.set_attribute("gen_ai.request.model", model)
    secrets = None
    if os.environ.get(CAPTURE, "").strip().lower() in _IN_SPANS:
        from .span_contents import question

        secrets = llm.secrets()
        span.set_attribute("gen_ai.input.messages", redact(question(request), secrets))
    return CallSpan(span, secrets)


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


class _Instruments(NamedTuple):
    """The metrics of calls."""

    tokens: Histogram
    seconds: Histogram
    first_chunk: Histogram


@cache
def _instruments() -> _Instruments:
    """The instruments of the application's meter provider; those made before it is set record once it is."""
    meter = sys.modules[METRICS].get_meter(__name__)

    def histogram(name: str, unit: str, description: str, limits: tuple[float, ...]) -> Any:
        given = f"gen_ai.client.{name}", unit, description
        try:
            return meter.create_histogram(*given, explicit_bucket_boundaries_advisory=limits)
        except TypeError:  # opentelemetry-api before 1.30
            return meter.create_histogram(*given)

    return _Instruments(
        histogram("token.usage", "{token}", "Number of input and output tokens used", TOKEN_BUCKETS),
        histogram("operation.duration", "s", "GenAI operation duration", DURATION_BUCKETS),
        histogram(
            "operation.time_to_first_chunk", "s", "Time to receive the first chunk", FIRST_CHUNK_BUCKETS
        ),
    )


def record(call: CallRecord) -> None:
    """Record the metrics of a call that has ended, if the application collects metrics."""
    if METRICS not in sys.modules:
        return
    instruments, completion = _instruments(), call.completion
    known = {"gen_ai.operation.name": call.operation, "gen_ai.provider.name": call.provider}
    if call.model:
        known["gen_ai.request.model"] = call.model
    outcome = {} if call.error is None else {"error.type": type(call.error).__qualname__}
    instruments.seconds.record(call.seconds, {**known, **outcome})
    if call.first_chunk is not None:
        instruments.first_chunk.record(call.first_chunk, known)
    if completion is not None and completion.usage is not None and not completion.cached:
        usage = completion.usage
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            instruments.tokens.record(count, {**known, "gen_ai.token.type": kind})
