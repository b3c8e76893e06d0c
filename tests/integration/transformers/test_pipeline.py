"""Behaviour specific to HFTransformers: loading, batches, sampling, adapters, memory, closing."""

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lagent_llms import (
    AsyncHFTransformers,
    ContextLengthExceeded,
    HFTransformers,
    InvalidArgument,
    LLMError,
    ModelLoadError,
    ModelStatusCode,
    UnknownParameter,
    UnsupportedParameter,
    create_llm,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from tests.waiting import until, wait_until

ADAPTERS = EMBEDDED_MODEL.parent / "adapters"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
IDENTITY = [{"role": "user", "content": "Who are you?"}]
PARIS = "The capital of France is Paris."
LONG = {"ignore_eos": True, "max_new_tokens": 1500}
SAMPLED = {"temperature": 1.5, "top_k": None, "top_p": 1}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def llm(model, tokenizer):
    with HFTransformers((model, tokenizer)) as llm:
        yield llm


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")


@pytest.fixture
def batch_sizes(model):
    """The number of rows of each forward pass."""
    sizes = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    yield sizes
    hook.remove()


# loading


def test_a_configuration_makes_it():
    with create_llm({"type": "HFTransformers", "path": str(EMBEDDED_MODEL), "dtype": "float32"}) as llm:
        assert isinstance(llm, HFTransformers)
        assert llm.chat("What is the capital of France?") == PARIS  # with the checkpoint's own template
        assert repr(llm) == f"HFTransformers({str(EMBEDDED_MODEL)!r})"
        assert llm.context_len == 2048


async def test_a_loaded_pair_and_its_asynchronous_twin(model, tokenizer):
    async with AsyncHFTransformers((model, tokenizer), session_len=1024) as llm:
        assert await llm.chat(FRANCE) == PARIS
        assert llm.context_len == 1024


def test_keywords_reach_transformers():
    options = {"dtype": torch.bfloat16}  # precedes the argument `dtype`
    with HFTransformers(EMBEDDED_MODEL, device="cpu", dtype="float64", model_kwargs=options) as llm:
        assert (llm.engine.model.dtype, llm.engine.model.device.type) == (torch.bfloat16, "cpu")
    with pytest.raises(ModelLoadError, match="none_such"):
        HFTransformers(EMBEDDED_MODEL, model_kwargs={"attn_implementation": "none_such"})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"path": "./nowhere"}, ModelLoadError, "no such model directory"),
        ({"path": 5}, InvalidArgument, "path is a int; allowed is a model directory"),
        ({"path": ("model", "tokenizer")}, InvalidArgument, "path is a tuple"),
        ({"max_batch": 3}, UnknownParameter, "did you mean 'max_batch_size'"),
        ({"max_batch_size": 0}, InvalidArgument, "max_batch_size=0"),
        ({"stop_token_ids": ["x"]}, InvalidArgument, "stop_token_ids='x'"),
        ({"adapters": {"a": "./nowhere"}}, ModelLoadError, "adapters: 'a'"),
        ({"tokenizer_path": "./nowhere"}, ModelLoadError, "nowhere"),
    ],
)
def test_arguments_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        HFTransformers(**{"path": EMBEDDED_MODEL, **given})


def test_a_parameter_is_refused_before_the_weights_are_loaded(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(InvalidArgument, match="temperature=-1"):
        HFTransformers(copy, temperature=-1)
    with pytest.raises(UnsupportedParameter, match="response_format"):
        HFTransformers(copy, response_format={"type": "json_object"})
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        HFTransformers(copy)


def test_parameters_that_are_not_set_are_the_models_own(copy, llm):
    assert (llm.params.temperature, llm.params.top_k, llm.params.top_p) == (0, None, 1)  # it does not sample
    file = copy / "generation_config.json"
    own = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05}
    file.write_text(json.dumps({**json.loads(file.read_text()), **own, "max_new_tokens": 9}))
    with HFTransformers(copy, top_p=0.5) as own_sampling:
        params = own_sampling.params
        assert (params.temperature, params.top_k, params.top_p) == (0.6, 20, 0.5)
        assert (params.repetition_penalty, params.max_new_tokens) == (1.05, 9)
        assert own_sampling.chat(FRANCE, temperature=0, max_new_tokens=64) == PARIS
        assert own_sampling.complete("Hello", ignore_eos=True).usage.completion_tokens == 9
    file.unlink()
    with HFTransformers(copy) as greedy:  # transformers' own defaults
        assert greedy.params.temperature == 0


# batches


PROMPTS = [f"Tell me a story about a lamp. {number} " * (1 + number % 3) for number in range(12)]


def test_a_batch_runs_in_batches_and_gives_the_single_answers(llm, batch_sizes):
    single = [llm.generate(prompt, max_new_tokens=12) for prompt in PROMPTS]
    assert set(batch_sizes) == {1}
    assert llm.generate(PROMPTS, max_new_tokens=12) == single
    assert max(batch_sizes) == 8
    batch_sizes.clear()
    lengths = [2 + 3 * (number % 4) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:  # each with parameters of its own
        answers = pool.map(
            lambda prompt, length: llm.complete(prompt, max_new_tokens=length, logprobs=length % 2 or None),
            PROMPTS,
            lengths,
        )
    for answer, length, text in zip(answers, lengths, single, strict=True):
        assert text.startswith(answer.text)
        assert answer.usage.completion_tokens <= length
        assert bool(answer.logprobs) == bool(length % 2)
    assert max(batch_sizes) > 1


def test_a_request_joins_the_running_ones(llm):
    expected = llm.generate("Count from 1 to 60.", ignore_eos=True, max_new_tokens=150)
    stream = llm.stream_generate("Count from 1 to 60.", ignore_eos=True, max_new_tokens=150)
    next(stream)
    assert llm.chat(FRANCE) == PARIS
    assert llm.engine.in_flight == 1  # the long answer goes on
    *_, last = stream
    assert last.text == expected


def test_one_request_at_a_time(model, tokenizer, batch_sizes):
    with HFTransformers((model, tokenizer), max_batch_size=1) as llm:
        assert llm.chat([FRANCE] * 3) == [PARIS] * 3
    assert set(batch_sizes) == {1}


def test_memory_that_does_not_suffice_for_a_batch(model, tokenizer):
    sizes = []

    def forward(module, args, kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = model.register_forward_pre_hook(forward, with_kwargs=True)
    with HFTransformers((model, tokenizer)) as llm:
        assert llm.chat([FRANCE] * 8) == [PARIS] * 8
        assert max(sizes) > 3
        assert sizes[-1] <= 3
        hook.remove()
        hook = model.register_forward_pre_hook(
            lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("2 GiB"))
        )
        with pytest.raises(LLMError, match="out of memory: 2 GiB; a shorter prompt") as caught:
            llm.chat(FRANCE)
        assert caught.value.status == ModelStatusCode.SERVER_ERR
        hook.remove()
        assert llm.chat(FRANCE) == PARIS


def test_an_error_of_the_model_ends_its_requests_only(model, tokenizer):
    hook = model.register_forward_pre_hook(lambda *_: 1 / 0)
    with HFTransformers((model, tokenizer)) as llm:
        with pytest.raises(LLMError, match="division by zero"):
            llm.chat(FRANCE)
        *_, last = llm.stream_chat(FRANCE, on_error="status")
        assert last.status == ModelStatusCode.SERVER_ERR
        hook.remove()
        assert llm.chat(FRANCE) == PARIS


# decoding


def test_a_seed_repeats_an_answer_and_leaves_the_global_generators_alone(llm):
    before = torch.get_rng_state()
    first, other = (llm.generate("Hello", seed=seed, max_new_tokens=30, **SAMPLED) for seed in (1, 2))
    assert first != other
    together = llm.generate(["Hello", *PROMPTS[:5]], seed=1, max_new_tokens=30, **SAMPLED)
    assert together[0] == first
    assert len({llm.generate("Hello", max_new_tokens=30, **SAMPLED) for _ in range(4)}) > 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [1e-40, 1e-9, 1e9])
def test_extreme_temperatures(llm, temperature):
    answer = llm.complete("Hello", temperature=temperature, max_new_tokens=5, ignore_eos=True)
    assert answer.usage.completion_tokens == 5


def test_log_probabilities_are_the_models(llm, model, tokenizer):
    ids = tokenizer.encode("Hello", add_special_tokens=True)
    sampled = {"temperature": 2, "top_k": 1, "repetition_penalty": 3, "ignore_eos": True}
    (item,) = llm.complete("Hello", max_new_tokens=1, logprobs=2, **sampled).logprobs
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    assert item.logprob == pytest.approx(float(expected[item.token_id]), abs=1e-4)
    assert [token for _, token, _ in item.top] == expected.topk(2).indices.tolist()


def test_further_stop_tokens(model, tokenizer):
    dot = tokenizer.encode(".", add_special_tokens=False)
    with HFTransformers((model, tokenizer), stop_token_ids=dot) as llm:
        answer = llm.complete(FRANCE)
        assert (answer.text, answer.finish_reason) == (PARIS[:-1], "stop")
        assert llm.complete(FRANCE, stop_words=["."]).stop_word == "."


def test_lengths(llm):
    with pytest.raises(ContextLengthExceeded, match="2048"):
        llm.generate("hello " * 4000)
    answer = llm.complete("hello " * 670, ignore_eos=True, max_new_tokens=2000)
    assert (answer.finish_reason, answer.usage.total_tokens) == ("length", 2048)


# stopping


async def test_cancelling_a_task_ends_its_request(model, tokenizer):
    async with AsyncHFTransformers((model, tokenizer)) as llm:
        task = asyncio.create_task(llm.generate("Hello", **LONG))
        await until(lambda: llm.engine.in_flight, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not llm.engine.in_flight)


def test_a_waiting_request_is_cancelled(model, tokenizer):
    with HFTransformers((model, tokenizer), max_batch_size=1) as llm:
        running = llm.stream_generate("Hello", **LONG)
        next(running)
        with ThreadPoolExecutor(1) as pool:
            waiting = llm.stream_generate("Hello", **LONG)
            reader = pool.submit(lambda: list(waiting))
            assert wait_until(lambda: llm.engine.in_flight == 2)
            waiting.close()
            assert wait_until(lambda: llm.engine.in_flight == 1)
            reader.exception(60)
        running.close()
        assert wait_until(lambda: not llm.engine.in_flight)


def test_ctrl_c_stops_the_generation(llm):
    def interrupt():
        wait_until(lambda: llm.engine.in_flight)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["Hello", "Hello again"], **LONG)
    thread.join()
    assert wait_until(lambda: not llm.engine.in_flight)


def test_closing_ends_streams_and_frees_the_model():
    llm = HFTransformers(EMBEDDED_MODEL)
    stream = llm.stream_generate("Hello", **LONG)
    next(stream)
    held = weakref.ref(llm.engine.model)
    llm.close()
    llm.close()
    with pytest.raises(LLMError, match="closed"):
        list(stream)
    with pytest.raises(LLMError, match="closed"):
        llm.generate("x")
    gc.collect()
    assert held() is None


def test_the_interpreter_exits_while_a_stream_is_running():
    code = (
        "import sys\nfrom lagent_llms import HFTransformers\n"
        "llm = HFTransformers(sys.argv[1])\n"
        "stream = llm.stream_generate('Hello', ignore_eos=True, max_new_tokens=1500)\n"
        "print(next(stream).status)\n"
    )
    command = [sys.executable, "-c", code, EMBEDDED_MODEL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert (done.returncode, done.stdout.strip(), "Traceback" in done.stderr) == (0, "1", False), done.stderr


# adapters


def test_each_prompt_has_its_adapter():
    paths = {name: ADAPTERS / name for name in ("shout", "french")}
    with HFTransformers(EMBEDDED_MODEL, adapters=paths) as llm:
        names = [None, "shout", "french", "shout", None]
        answers = llm.chat([IDENTITY] * 5, adapter_id=names)
        assert answers[3:] == [answers[1], answers[0]]
        assert len(set(answers)) == 3
        assert answers[1].isupper()
        assert llm.chat(FRANCE) == PARIS
        with pytest.raises(InvalidArgument, match="adapter_name='pirate': loaded are french, shout"):
            llm.chat(FRANCE, adapter_name="pirate")


def test_a_model_with_peft_adapters(tokenizer):
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL)
    model = PeftModel.from_pretrained(base, ADAPTERS / "shout", adapter_name="shout")
    with HFTransformers((model, tokenizer), adapters={"french": ADAPTERS / "french"}) as llm:
        assert llm.chat(FRANCE) == PARIS.upper()  # as the model was given
        assert not llm.chat(IDENTITY, adapter_name="french").isupper()
        assert llm.chat(FRANCE) == PARIS.upper()


def test_penalties_and_biases_equal_those_of_the_jax_engine(model, tokenizer):
    question = [{"role": "user", "content": "Count from 1 to 60."}]
    cases = [
        {"frequency_penalty": 0.7},
        {"presence_penalty": 2, "repetition_penalty": 1.1},
        {"frequency_penalty": -2, "presence_penalty": 0.5, "logit_bias": {20: 3.5, 21: -4}},
        {"min_new_tokens": 60, "logit_bias": {30: -100}},
    ]
    with HFTransformers((model, tokenizer), temperature=0) as llm, create_llm(temperature=0) as jax:
        plain = llm.chat(question)
        for given in cases:
            answers = [one.complete(question, max_new_tokens=80, **given) for one in (llm, jax)]
            assert answers[0].token_ids == answers[1].token_ids
            assert answers[0].text != plain
        # alone and in a batch with others
        alone = llm.chat(question, max_new_tokens=80, **cases[2])
        assert jax.chat([question] * 3, max_new_tokens=80, **cases[2]) == [alone] * 3
        for one in (llm, jax):
            with pytest.raises(
                InvalidArgument, match=r"logit_bias: the model has no token 1024; .* end at 1023"
            ):
                one.chat(question, logit_bias={1024: 1})
