"""`JAXServer` with and without HTTP, on the embedded model."""

import numpy as np
import pytest

from lagent_llms import ConfigError, InvalidArgument, JAXPipeline, JAXServer
from lagent_llms.serving.jax_server.config import JAXServerConfig

from .test_openai_api import ask

CONFIG = {"host": "127.0.0.1", "port": 0, "max_new_tokens": 24, "contains_auto_format": False}


@pytest.fixture(scope="module")
def server():
    server = JAXServer.load(config=CONFIG)
    server.fire()
    yield server
    server.close()


def test_process_iterated_and_as_a_result(server):
    pairs = list(server.process(string="hello my name is", greedy=True, max_new_tokens=8))
    text, count = server.process(string="hello my name is", greedy=True, max_new_tokens=8).result()
    assert pairs[-1] == (text, count)
    assert count <= 8
    assert all(later[0].startswith(earlier[0]) for earlier, later in zip(pairs, pairs[1:], strict=False))
    reference = JAXPipeline(engine=server.engine, temperature=0, max_new_tokens=8)
    assert text == reference.generate("hello my name is")


def test_instruct_is_the_same_over_http_and_in_process(server):
    asked = {"prompt": "Say hello.", "system": "Be brief.", "greedy": True}
    status, _, answer = ask(server, "/instruct", asked)
    assert status == 200
    assert answer == server.forward_instruct_non_api("Say hello.", "Be brief.", True)
    assert answer["input"] == "### SYSTEM:\nBe brief.\n### INSTRUCT:\nSay hello.\n### ASSISTANT:\n"
    assert 0 < answer["tokens_used"] <= 24


def test_a_missing_system_is_not_the_text_none(server):
    assert "None" not in server.forward_instruct_non_api("Hi", None, True)["input"]


def test_chat_is_the_same_over_http_and_in_process(server):
    history = [["hello", "Hi."]]
    status, _, answer = ask(server, "/chat", {"prompt": "Who are you?", "history": history, "greedy": True})
    assert status == 200
    assert answer == server.forward_chat_non_api("Who are you?", history, True)
    assert answer["input"] == (
        "<|prompter|>hello</s><|assistant|>Hi.</s><|prompter|>Who are you?</s><|assistant|>"
    )


def test_the_temperature_of_a_request_is_honoured(server):
    greedy = ask(server, "/instruct", {"prompt": "Tell me a story.", "greedy": True})[2]["response"]
    assert ask(server, "/instruct", {"prompt": "Tell me a story.", "temperature": 0})[2]["response"] == greedy
    assert ask(server, "/instruct", {"prompt": "Tell me a story.", "temperature": 5})[2]["response"] != greedy


def test_status_counts(server):
    before = ask(server, "/status")[2]["number_of_served_request_until_last_up_time"]
    ask(server, "/instruct", {"prompt": "Hi", "greedy": True})
    status = ask(server, "/status")[2]
    assert status["number_of_served_request_until_last_up_time"] == before + 1
    assert status["config"]["max_new_tokens"] == 24
    assert status["devices"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/instruct", b"no json"),
        ("/instruct", {}),
        ("/instruct", {"prompt": 3}),
        ("/instruct", {"prompt": "Hi", "temperature": -1}),
        ("/instruct", {"prompt": "word " * 5000}),
        ("/instruct", {"prompt": "Hi \ud83d"}),
        ("/instruct", {"prompt": "Hi", "system": "\ud83d"}),
        ("/instruct", {"prompt": "Hi", "\ud83d": 1}),
        ("/chat", {"prompt": "Hi", "history": [["Hi \ud83d", "Hi"]]}),
        ("/chat", {"prompt": "Hi", "history": [["only one"]]}),
        ("/chat", {"prompt": "Hi", "history": [["a", "b", "c"]]}),
    ],
)
def test_invalid_input_is_400_and_the_server_stays_up(server, path, body):
    status, _, answer = ask(server, path, body)
    assert status == 400
    assert answer["error"]["message"]
    assert ask(server, "/instruct", {"prompt": "Hi", "greedy": True})[0] == 200


def test_the_route_calls_an_override(server):
    class Mine(JAXServer):
        def forward_instruct(self, data):
            return {"mine": data.prompt}

    mine = Mine(server.engine, CONFIG)
    mine.fire()
    assert ask(mine, "/instruct", {"prompt": "Hi"})[2] == {"mine": "Hi"}
    mine.end()
    assert mine.url is None


def test_a_configuration_from_none_a_dict_or_an_object():
    class Some:
        port = 5

    assert JAXServerConfig.of() == JAXServerConfig()
    assert len(vars(JAXServerConfig())) == 26  # the 24 of the seed, `injection`, `stream_tokens_for_gradio`
    assert JAXServerConfig.of({"port": 5}) == JAXServerConfig.of(Some()) == JAXServerConfig(port=5)
    with pytest.raises(ConfigError, match="did you mean 'port'"):
        JAXServerConfig.of({"prt": 5})
    with pytest.raises(InvalidArgument, match="instruct_format"):
        JAXServerConfig(instruct_format="{nothing}")


def test_generate_continues_a_batch(server):
    tokenizer = server.engine.tokenizer
    prompts = [tokenizer.encode(text, add_bos=True) for text in ("hello my name is", "Once upon a")]
    width = max(map(len, prompts))
    ids = np.array([[0] * (width - len(one)) + one for one in prompts])
    mask = np.array([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    found = server.greedy_generate(None, ids, mask)
    assert found.shape == (2, server.config.max_compile_tokens)
    pipeline = JAXPipeline(engine=server.engine, temperature=0, max_new_tokens=found.shape[1])
    for row, text in zip(found, ("hello my name is", "Once upon a"), strict=True):
        completion = pipeline.complete(text)
        assert tuple(row[: len(completion.token_ids)]) == completion.token_ids
        assert set(row[len(completion.token_ids) :]) <= tokenizer.eos_ids
    assert server.generate(None, ids, mask, temperature=3.0).shape == found.shape
