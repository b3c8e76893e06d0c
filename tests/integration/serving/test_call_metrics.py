"""Prometheus metrics of calls."""

import pytest
from prometheus_client import CollectorRegistry

from lagent_llms import ServerError
from lagent_llms.serving.call_metrics import CallMetrics
from lagent_llms.testing import ScriptedLLM

USER = [{"role": "user", "content": "Hi"}]
LABELS = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "ScriptedLLM",
    "gen_ai_request_model": "m",
}


def test_calls_of_a_backend(tmp_path):
    registry = CollectorRegistry()
    script = iter(["fine", ServerError("busy", status_code=503), "fine", ServerError("no", status_code=400)])
    llm = ScriptedLLM(lambda _: [next(script)], meta_template="chatml", retry={"base": 0.001}, cache=tmp_path)
    llm.model_name = "m"
    CallMetrics(registry).observe(llm.usage)

    def value(name, **labels):
        return registry.get_sample_value(name, {**LABELS, **labels})

    prompt_tokens = llm.complete(USER, temperature=0).usage.prompt_tokens
    llm.cache.flush()
    assert llm.complete(USER, temperature=0).cached
    llm.chat("Hi", temperature=0.5)  # retried
    with pytest.raises(ServerError):
        llm.chat("Hi", temperature=0.5)
    llm.close()
    tokens = "gen_ai_client_token_usage"
    assert value(f"{tokens}_count", gen_ai_token_type="input") == 2
    assert value(f"{tokens}_sum", gen_ai_token_type="input") == 2 * prompt_tokens
    assert value(f"{tokens}_sum", gen_ai_token_type="output") == 2
    assert value(f"{tokens}_bucket", gen_ai_token_type="output", le="1.0") == 2
    assert value("gen_ai_client_operation_duration_seconds_count", error_type="") == 3
    assert value("gen_ai_client_operation_duration_seconds_count", error_type="ServerError") == 1
    assert value("gen_ai_client_operation_time_to_first_chunk_seconds_count") == 3
    assert value("lagent_call_retries_total") == 1
    assert value("lagent_cached_answers_total") == 1
