"""`JAXServer` with models of other libraries: nnx, linen, and the interfaces of EasyDeL and transformers."""

import copy
import functools
import threading

import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from flax import nnx
from transformers import AutoTokenizer, GenerationConfig

from lagent_llms import (
    ContextLengthExceeded,
    InvalidArgument,
    JAXServer,
    ModelLoadError,
    UnsupportedParameter,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL

from .foreign_models import Called, Generating, Pretrained, greedy
from .test_openai_api import ask, events

CONFIG = {"host": "127.0.0.1", "port": 0, "max_new_tokens": 20, "max_compile_tokens": 8, "max_length": 128}
PROMPT = "hello my name is daniel and i"
Ps = jax.sharding.PartitionSpec


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL)


def of_nnx(kind, tokenizer):
    model = kind(nnx.Rngs(3))
    return JAXServer.load_from_params(
        model=model, config=CONFIG, tokenizer=tokenizer
    ), lambda ids: model(ids).logits


def of_pretrained(tokenizer, server=JAXServer):
    model = Pretrained()
    params = model.init_weights(jax.random.PRNGKey(3), (1, 1))
    server = server.load_from_params(
        model=model, config=CONFIG, tokenizer=tokenizer, params=params, add_params_field=True
    )
    return server, lambda ids: model(ids, params={"params": params}).logits


@pytest.fixture(scope="module", params=["called", "generating", "pretrained"])
def served(request, tokenizer):
    make = {
        "called": functools.partial(of_nnx, Called),
        "generating": functools.partial(of_nnx, Generating),
        "pretrained": of_pretrained,
    }
    server, logits = make[request.param](tokenizer)
    with server:
        server.fire()
        yield server, logits


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_greedy_equals_the_model_s_argmax(served, tokenizer, count):
    server, logits = served
    expected, _ = greedy(logits, tokenizer.encode(PROMPT), count, {tokenizer.eos_token_id})
    text, n_tokens = server.process(PROMPT, greedy=True, max_new_tokens=count).result()
    assert n_tokens == len(expected) > 0
    assert text == tokenizer.decode(expected)


def test_a_stream_yields_one_step_per_chunk(served):
    server, _ = served
    pairs = list(server.process(PROMPT, greedy=True, max_new_tokens=20))
    assert len(pairs) >= 3
    assert {count for _, count in pairs} <= {8, 16, 20}
    assert all(later[0].startswith(earlier[0]) for earlier, later in zip(pairs, pairs[1:], strict=False))


def test_an_end_token_inside_a_chunk_ends_the_answer(served, tokenizer):
    server, logits = served
    third = greedy(logits, tokenizer.encode(PROMPT), 3, {tokenizer.eos_token_id})[0][2]
    ending = copy.deepcopy(tokenizer)
    ending.eos_token = tokenizer.convert_ids_to_tokens(third)
    model = server.model
    with JAXServer.load_from_params(model, None, CONFIG, ending, server.params) as other:
        assert other.process(PROMPT, greedy=True).result()[1] == 2


def test_over_http(served, tokenizer):
    server, _ = served
    asked = {"prompt": PROMPT, "system": "Be brief.", "greedy": True}
    status, _, answer = ask(server, "/instruct", asked)
    assert (status, answer) == (200, server.forward_instruct_non_api(PROMPT, "Be brief.", True))
    assert answer["input"].startswith("<s><|im_start|>system\nBe brief.<|im_end|>\n")
    model = ask(server, "/v1/models")[2]["data"][0]["id"]
    assert model == type(server.model).__name__
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 20}
    whole = ask(server, "/v1/completions", body)[2]["choices"][0]["text"]
    streamed = events(ask(server, "/v1/completions", {**body, "stream": True})[2])
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == whole
    assert whole == server.process(PROMPT, True).result()[0]
    assert ask(server, "/status")[2]["number_of_served_prompts"] >= 4


def test_temperature_is_honoured(served):
    server, _ = served
    body = {"prompt": PROMPT, "temperature": 3.0}
    hot = {ask(server, "/instruct", body)[2]["response"] for _ in range(3)}
    assert len(hot) > 1
    cold, first = ({"prompt": PROMPT, **how} for how in ({"temperature": 0}, {"greedy": True}))
    assert ask(server, "/instruct", cold)[2] == ask(server, "/instruct", first)[2]


def test_concurrent_requests(served):
    server, _ = served
    expected = server.process(PROMPT, True).result()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(server.process(PROMPT, True).result())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_unsupported_parameters_are_refused(served):
    server, _ = served
    model = type(server.model).__name__
    status, _, answer = ask(server, "/v1/completions", {"model": model, "prompt": "a", "logprobs": 2})
    assert (status, answer["error"]["param"]) == (400, "logprobs")
    with pytest.raises(ContextLengthExceeded, match="128 tokens"):
        server.process("word " * 200).result()


def test_generate_continues_a_batch(served, tokenizer):
    server, logits = served
    ids = tokenizer.encode(PROMPT)
    rows, mask = np.array([ids, ids]), np.ones((2, len(ids)), np.int32)
    found = np.asarray(server.greedy_generate(server.params, rows, mask))
    assert found.shape == (2, 8)
    expected, _ = greedy(logits, ids, 8, {tokenizer.eos_token_id})
    assert found[0].tolist()[: len(expected)] == expected
    assert np.asarray(server.generate(server.params, rows, mask)).shape == (2, 8)


def test_an_override_of_configure_generate_functions(tokenizer):
    """The example of EasyDeL's documentation."""

    class Mine(JAXServer):
        def configure_generate_functions(self, model, tokenizer):
            assert self.rules is not None, "you should first shard params with using ``shard_params`` method"
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            tokenizer.padding_side = "left"
            tokenizer.truncation_side = "left"
            self.prefix_tokenizer = copy.deepcopy(tokenizer)
            tokenizer.padding_side = "right"
            tokenizer.truncation_side = "right"
            self.tokenizer = copy.deepcopy(tokenizer)

            def make(**settings):
                @functools.partial(jax.jit, in_shardings=(self.rules, Ps(), Ps()), out_shardings=(Ps()))
                def generate(parameters, input_ids, attention_mask):
                    input_ids = jax.lax.with_sharding_constraint(input_ids, Ps(("dp", "fsdp")))
                    attention_mask = jax.lax.with_sharding_constraint(attention_mask, Ps(("dp", "fsdp")))
                    return model.generate(
                        input_ids,
                        attention_mask=attention_mask,
                        params=parameters,
                        generation_config=GenerationConfig(
                            max_new_tokens=self.config.max_compile_tokens,
                            eos_token_id=tokenizer.eos_token_id,
                            pad_token_id=tokenizer.pad_token_id,
                            bos_token_id=tokenizer.bos_token_id,
                            temperature=self.config.temperature,
                            num_beams=1,
                            **settings,
                        ),
                    ).sequences[:, input_ids.shape[1] :]

                return generate

            self.greedy_generate_function = make(do_sample=False)
            self.generate_function = make(do_sample=True, top_p=self.config.top_p, top_k=self.config.top_k)
            self._funcs_generated = True

    server, logits = of_pretrained(copy.deepcopy(tokenizer), Mine)
    with server:
        expected, _ = greedy(logits, tokenizer.encode(PROMPT), 20, {tokenizer.eos_token_id})
        assert server.process(PROMPT, greedy=True).result() == (tokenizer.decode(expected), len(expected))
        assert server.process(PROMPT).result()[1] > 0  # with the configuration's temperature
        with pytest.raises(UnsupportedParameter, match="takes no temperature"):
            server.process(PROMPT, temperature=2.0).result()


def test_a_checkpoint_of_easydel(tokenizer, tmp_path):
    model = Pretrained()
    params = model.init_weights(jax.random.PRNGKey(5), (1, 1))
    file = tmp_path / "model.easydel"
    packer = msgpack.Packer()
    with file.open("wb") as out:
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
            out.write(packer.pack(([key.key for key in path], flax.serialization.to_bytes(leaf))))
    arguments = {
        "path": file,
        "model": model,
        "tokenizer": tokenizer,
        "config_model": None,
        "add_params_field": True,
        "config": CONFIG,
        "init_shape": (1, 1),
    }
    with JAXServer.load(**arguments) as server:
        ids, ends = tokenizer.encode(PROMPT), {tokenizer.eos_token_id}
        expected, _ = greedy(lambda ids: model(ids, params={"params": params}).logits, ids, 20, ends)
        assert server.process(PROMPT, greedy=True).result()[0] == tokenizer.decode(expected)
    del params["head"]
    with file.open("wb") as out:
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
            out.write(packer.pack(([key.key for key in path], flax.serialization.to_bytes(leaf))))
    with pytest.raises(ModelLoadError, match="head/bias: the model expects"):
        JAXServer.load(**arguments)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelLoadError, match="model.easydel"):
        JAXServer.load(**arguments)
    with pytest.raises(ModelLoadError, match="gone"):
        JAXServer.load(**{**arguments, "path": tmp_path / "gone"})


def test_missing_arguments_are_reported(tokenizer):
    model = Called(nnx.Rngs(0))
    with pytest.raises(InvalidArgument, match="tokenizer"):
        JAXServer.load_from_params(model=model, config=CONFIG)
    with pytest.raises(InvalidArgument, match="params"):
        JAXServer.load_from_params(model=Pretrained(), tokenizer=tokenizer, config=CONFIG)
    with pytest.raises(InvalidArgument, match="generate"):
        JAXServer.load_from_params(model=3, tokenizer=tokenizer, params={"a": jnp.ones(1)}, config=CONFIG)
    with pytest.raises(InvalidArgument, match="model"):
        JAXServer.load(tokenizer=tokenizer)
