"""The extra `otel`: a call is a span, and has metrics."""

import subprocess
import sys

# In a subprocess: OpenTelemetry accepts only one tracer provider per process.
CODE = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from lagent_llms.testing import ScriptedLLM

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
ScriptedLLM("fine", meta_template="chatml").chat("Hi", max_new_tokens=20)
(span,) = exporter.get_finished_spans()
print(span.name, span.attributes["gen_ai.request.max_tokens"], span.status.status_code.name)
print(*sorted(one.name for one in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics))
"""


METRICS = (
    "gen_ai.client.operation.duration gen_ai.client.operation.time_to_first_chunk gen_ai.client.token.usage"
)


def test_a_call_is_a_span_and_has_metrics():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"chat 20 UNSET\n{METRICS}\n", "")
