"""/metrics, /status and /health, servers without a model, and invalid configurations."""

import gc
import threading

import psutil
import pytest

from lagent_llms import ConfigError, InvalidArgument, JAXServer, LLMError
from lagent_llms.serving.jax_server.config import JAXServerConfig

from .test_load import opened
from .test_openai_api import ENDLESS, ask, chat

LOCAL = {"host": "127.0.0.1", "port": 0}


def metrics(server):
    status, headers, text = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics(server, wait_until):
    chat(server)
    before = metrics(server)
    answer = chat(server)[2]
    chat(server, max_tokens=-1)
    after = metrics(server)

    def increase(name):
        return after[name] - before.get(name, 0)

    route = '{route="/v1/chat/completions"'
    assert increase(f'lagent_requests_total{route},status="200"}}') == 1
    assert increase(f'lagent_requests_total{route},status="400"}}') == 1
    assert increase(f"lagent_request_seconds_count{route}}}") == 2
    assert increase(f"lagent_first_byte_seconds_count{route}}}") == 2
    assert increase("lagent_completion_tokens_total") == answer["usage"]["completion_tokens"]
    assert increase("lagent_prompt_tokens_total") == answer["usage"]["prompt_tokens"]
    model = 'gen_ai_operation_name="chat",gen_ai_provider_name="JAXPipeline",gen_ai_request_model="embedded"'
    assert increase(f'gen_ai_client_operation_duration_seconds_count{{error_type="",{model}}}') == 1
    assert increase(f"gen_ai_client_operation_time_to_first_chunk_seconds_count{{{model}}}") == 1
    tokens = f'gen_ai_client_token_usage_sum{{{model},gen_ai_token_type="output"}}'
    assert increase(tokens) == answer["usage"]["completion_tokens"]
    assert after["process_resident_memory_bytes"] > 1 << 20
    running = opened(server, "/v1/completions", ENDLESS)
    wait_until(lambda: metrics(server)["lagent_slots_in_use"] == 1)
    assert metrics(server)["lagent_requests_in_flight"] == 1
    running.close()
    wait_until(lambda: metrics(server)["lagent_slots_in_use"] == 0)


def test_unknown_paths_share_one_metric(server):
    for number in range(20):
        assert ask(server, f"/nothing/{number}")[0] == 404
    assert "/nothing" not in ask(server, "/metrics")[2]
    assert metrics(server)['lagent_requests_total{route="other",status="404"}'] == 20


def test_status(engine):
    server = JAXServer(engine, LOCAL)
    server.fire()
    status = ask(server, "/status")[2]
    assert status["status"] == "Ready"
    assert len(status["config"]) == 26
    assert status["memory"]["process"] > 1 << 20
    assert status["memory"]["machine"] > status["memory"]["available"] > 0
    assert list(status["memory"]["devices"]) == status["devices"]
    assert status["cores_in_use"] >= 1
    assert status["uptime"] >= 0
    served = status["number_of_served_prompts"]
    ask(server, "/instruct", {"prompt": "hello", "greedy": True})
    assert ask(server, "/status")[2]["number_of_served_prompts"] == served + 1
    server.end()


def test_cores_on_a_platform_without_affinity(engine, monkeypatch):
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    assert JAXServer(engine, LOCAL).status()["cores_in_use"] == psutil.cpu_count()


def test_a_server_without_a_model_is_down():
    server = JAXServer(config=LOCAL)
    server.fire()
    down = {"status": "down"}
    assert ask(server, "/health")[::2] == (503, down)
    assert ask(server, "/instruct", {"prompt": "hello"})[::2] == (503, down)
    assert ask(server, "/chat", {"prompt": "hello"})[::2] == (503, down)
    assert ask(server, "/status")[2]["status"] == "down"
    assert server.forward_instruct_non_api("hello", None, True) == down
    assert server.forward_chat_non_api("hello", [], True) == down
    with pytest.raises(LLMError, match="down"):
        server.process("hello")
    server.close()


def test_a_closed_server_is_down():
    server = JAXServer.load(config=LOCAL)
    assert server.ready
    server.close()
    assert not server.ready
    assert server.forward_chat_non_api("hello") == {"status": "down"}


def test_a_seed_repeats_a_run_and_not_an_answer():
    def answers(seed):
        config = {**LOCAL, "seed": seed, "temperature": 2.0, "max_new_tokens": 20}
        with JAXServer.load(config=config) as server:
            return [server.process("Once upon").result()[0] for _ in range(3)]

    first = answers(556)
    assert first == answers(556) != answers(7)
    assert len(set(first)) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"port": 70000}, "port=70000"),
        ({"port": "2059"}, "port='2059'"),
        ({"host": ""}, "host"),
        ({"max_length": 4096}, "at most 2048"),
        ({"max_length": 0}, "max_length=0"),
        ({"dtype": "int3"}, "dtype='int3'"),
        ({"temperature": -1}, "temperature=-1"),
        ({"mesh_axes_shape": "no"}, "mesh_axes_shape"),
        ({"mesh_axes_shape": (1, 2)}, "as many names as sizes"),
        ({"mesh_axes_shape": (64, 1, 1)}, "devices"),
        ({"logging": "yes"}, "logging='yes'"),
        ({"seed": -1}, "seed=-1"),
        ({"chat_format": "{unknown}"}, "chat_format"),
        ({"contains_auto_format": None}, "contains_auto_format=None"),
    ],
)
def test_an_invalid_configuration_fails_before_the_model_is_loaded(config, message, monkeypatch):
    monkeypatch.setattr("lagent_llms.jax_engine.engine.load_weights", None)
    with pytest.raises(InvalidArgument, match=message):
        JAXServer.load(config=config)


@pytest.mark.parametrize("config", [5, "port", object()])
def test_objects_that_are_not_a_configuration(config):
    with pytest.raises(ConfigError):
        JAXServerConfig.of(config)


def test_max_length_and_max_new_tokens():
    """The default `max_length` of 2048 can be lowered, and limits `max_new_tokens`."""
    with JAXServer.load(config={**LOCAL, "max_length": 64}) as server:
        assert server.engine.max_len == server.config.max_length == 64
        _, count = server.process("Once upon a time", greedy=True).result()
        assert count <= 64
        with pytest.raises(InvalidArgument, match="allowed are 1 to 64"):
            server.process("Once", max_new_tokens=65)
    assert JAXServerConfig().max_length == 2048


def test_invalid_arguments_in_python(engine):
    server = JAXServer(engine, LOCAL)
    with pytest.raises(InvalidArgument, match="prompt"):
        server.forward_instruct_non_api("")
    with pytest.raises(InvalidArgument, match="history"):
        server.forward_chat_non_api("hi", [["only one"]])
    with pytest.raises(InvalidArgument, match="temperature"):
        server.process("hi", temperature=-1)


def test_threads_end_with_the_server(wait_until):
    before = threading.active_count()
    server = JAXServer.load(config=LOCAL)
    server.fire()
    ask(server, "/instruct", {"prompt": "hello", "greedy": True})
    server.close()
    del server
    gc.collect()
    wait_until(lambda: threading.active_count() <= before)
