"""The extra `otel`: a call is a span."""

import subprocess
import sys

# In a subprocess: OpenTelemetry accepts only one tracer provider per process.
CODE = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from lagent_llms.testing import ScriptedLLM

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
ScriptedLLM("fine", meta_template="chatml").chat("Hi", max_new_tokens=20)
(span,) = exporter.get_finished_spans()
print(span.name, span.attributes["gen_ai.request.max_tokens"], span.status.status_code.name)
"""


def test_a_call_is_a_span():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("chat 20 UNSET\n", "")
