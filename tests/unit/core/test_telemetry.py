"""OpenTelemetry's SDK: a span of each call, on success, error and cancellation, and metrics of it."""

import asyncio
import json
import subprocess
import sys

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lagent_llms import BatchError, InvalidArgument, ServerError, StreamInterrupted
from lagent_llms.core.telemetry import CAPTURE
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

USER = [{"role": "user", "content": "a secret"}]


@pytest.fixture(scope="module")
def exporter():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def spans(exporter):
    exporter.clear()
    return exporter.get_finished_spans


def chatty(script="fine", **kwargs):
    return ScriptedLLM(script, meta_template="chatml", **kwargs)


def test_a_chat(spans):
    llm = chatty(max_new_tokens=20, temperature=0)
    llm.model_name = "some-model"
    llm.chat(USER, seed=3, stop_words=["X"])
    (span,) = spans()
    assert (span.name, span.kind) == ("chat some-model", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    found = dict(span.attributes)
    assert found.pop("gen_ai.usage.input_tokens") > 0
    assert found.pop("gen_ai.usage.output_tokens") > 0
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ScriptedLLM",
        "gen_ai.request.model": "some-model",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0,
        "gen_ai.request.top_p": 0.8,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("X",),
        "gen_ai.response.finish_reasons": ("stop",),
    }


def test_prompts_and_answers_are_not_recorded(spans):
    chatty("an answer").chat(USER)
    recorded = str([span.to_json() for span in spans()])
    assert "secret" not in recorded
    assert "an answer" not in recorded


@pytest.mark.parametrize("value", ["true", "SPAN_ONLY", "span_and_event"])
def test_contents_are_recorded_if_the_environment_asks_for_it(spans, monkeypatch, value):
    monkeypatch.setenv(CAPTURE, value)
    monkeypatch.setattr(ScriptedLLM, "secrets", lambda _: ("sk-key",))
    chatty("an answer with sk-key").chat([{"role": "user", "content": "the key is sk-key"}])
    (span,) = spans()
    assert json.loads(span.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "the key is ***"}]}
    ]
    (said,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "text", "content": "an answer with ***"}]
    assert said["finish_reason"] == "stop"


@pytest.mark.parametrize("value", ["", "false", "no_content", "event_only"])
def test_contents_are_not_recorded_otherwise(spans, monkeypatch, value):
    monkeypatch.setenv(CAPTURE, value)
    chatty("an answer").chat(USER)
    (span,) = spans()
    assert not [name for name in span.attributes if name.endswith("messages")]


def test_metrics_of_calls():
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    llm = chatty(["a", "b", "c"])
    llm.model_name = "some-model"
    prompt_tokens = llm.complete(USER).usage.prompt_tokens
    with pytest.raises(ServerError):
        chatty([ServerError("no")]).chat(USER)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    known = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ScriptedLLM",
        "gen_ai.request.model": "some-model",
    }

    def points(name):
        return [(dict(one.attributes), one.count, one.sum) for one in found[name].data.data_points]

    assert found["gen_ai.client.token.usage"].unit == "{token}"
    assert points("gen_ai.client.token.usage") == [
        ({**known, "gen_ai.token.type": "input"}, 1, prompt_tokens),
        ({**known, "gen_ai.token.type": "output"}, 1, 3),
    ]
    (answered, failed) = points("gen_ai.client.operation.duration")
    assert answered[:2] == (known, 1)
    assert 0 < answered[2] < 60
    assert failed[0]["error.type"] == "ServerError"
    (first,) = points("gen_ai.client.operation.time_to_first_chunk")
    assert first[:2] == (known, 1)
    (point, *_) = found["gen_ai.client.operation.duration"].data.data_points
    assert point.explicit_bounds[:3] == (0.01, 0.02, 0.04)


def test_a_prompt_and_a_session(spans):
    ScriptedLLM("fine").generate("x", session_id=7, sequence_end=False)
    (span,) = spans()
    assert span.name == "text_completion"
    assert span.attributes["gen_ai.conversation.id"] == "7"


def test_a_span_is_a_child_of_the_current_span(spans):
    with trace.get_tracer("app").start_as_current_span("agent step"):
        chatty().chat(USER)
    call, step = spans()
    assert call.parent.span_id == step.context.span_id


def test_a_stream_is_one_span_that_ends_with_it(spans):
    stream = chatty(["a", "b"]).stream_chat(USER)
    next(stream)
    assert spans() == ()
    list(stream)
    assert [span.name for span in spans()] == ["chat"]


def test_a_stream_left_early_ends_its_span(spans):
    stream = chatty(["a", 30.0, "b"]).stream_chat(USER)
    next(stream)
    stream.close()
    stream.close()
    (span,) = spans()
    assert "gen_ai.response.finish_reasons" not in span.attributes
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("llm", "kind"),
    [
        (chatty(["a", ServerError("overloaded")]), ServerError),
        (chatty("a", finish_reason=None), StreamInterrupted),
    ],
)
def test_errors(spans, llm, kind):
    with pytest.raises(kind):
        llm.chat(USER)
    (span,) = spans()
    assert span.attributes["error.type"] == kind.__name__
    assert span.status.status_code is StatusCode.ERROR


def test_a_call_refused_before_sending_has_no_span(spans):
    with pytest.raises(InvalidArgument):
        chatty().chat("")
    assert spans() == ()


def test_a_batch_has_one_span_per_input(spans):
    with pytest.raises(BatchError):
        chatty().chat(["a", "", "b"])
    assert len(spans()) == 2


async def test_async_and_cancelled(spans):
    llm = AsyncScriptedLLM(["a", 30.0, "b"], meta_template="chatml")
    task = asyncio.create_task(llm.chat(USER))
    while not llm.open:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (span,) = spans()
    assert span.attributes["error.type"] == "CancelledError"
    assert span.attributes["gen_ai.provider.name"] == "ScriptedLLM"


@pytest.mark.parametrize(
    ("imported", "begun"),
    [("", []), ("import opentelemetry.trace, opentelemetry.metrics\n", [None])],
)
def test_without_a_tracer_provider_nothing_is_recorded(imported, begun):
    code = (
        "import sys\n" + imported + "from lagent_llms.core import telemetry\n"
        "from lagent_llms.testing import ScriptedLLM\n"
        "found = []\n"
        "begin = telemetry.begin\n"
        "telemetry.begin = lambda *given: found.append(begin(*given))\n"
        "print(ScriptedLLM('ok').generate('x'), found, 'opentelemetry' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ok {begun} {bool(imported)}\n"
