"""Behaviour specific to the JAX pipelines: loading, cancelling, context limits, closing."""

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from lagent_llms import (
    AsyncJAXPipeline,
    ContextLengthExceeded,
    InvalidArgument,
    JAXPipeline,
    LLMError,
    ModelLoadError,
    ModelStatusCode,
    TemplateError,
    UnknownParameter,
    create_llm,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.jax_engine import SamplingParams
from tests.waiting import until, wait_until

LONG = {"ignore_eos": True, "max_new_tokens": 1500}


def running(llm):
    stats = llm.engine.stats()
    return stats.slots_in_use + stats.waiting


@pytest.fixture(scope="module")
def llm():
    with create_llm() as llm:
        yield llm


def test_its_model_is_in_this_process():
    assert JAXPipeline.in_process
    assert AsyncJAXPipeline.in_process


def test_create_llm_without_arguments_is_the_embedded_model(llm):
    assert isinstance(llm, JAXPipeline)
    assert llm.chat("What is the capital of France?") == "The capital of France is Paris."
    assert repr(llm) == f"JAXPipeline({str(EMBEDDED_MODEL)!r})"


async def test_the_asynchronous_pipeline():
    async with create_llm(asynchronous=True) as llm:
        assert isinstance(llm, AsyncJAXPipeline)
        assert await llm.chat("What is the capital of France?") == "The capital of France is Paris."


async def test_cancelling_a_task_frees_the_slot(llm):
    async_llm = AsyncJAXPipeline(engine=llm.engine, meta_template="internlm2-lagent")
    task = asyncio.create_task(async_llm.generate("Hello", **LONG))
    await until(lambda: running(llm), task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not running(llm))


async def test_breaking_out_of_an_async_stream_frees_the_slot(llm):
    async_llm = AsyncJAXPipeline(engine=llm.engine, meta_template="internlm2-lagent")
    async for _ in async_llm.stream_generate("Hello", **LONG):
        break
    gc.collect()
    await until(lambda: not running(llm))


def test_breaking_out_of_a_stream_frees_the_slot(llm):
    for _ in llm.stream_generate("Hello", **LONG):
        break
    gc.collect()
    assert wait_until(lambda: not running(llm))


async def test_two_hundred_requests_at_once(llm):
    async_llm = AsyncJAXPipeline(engine=llm.engine, meta_template="internlm2-lagent", temperature=0)
    answers = await async_llm.chat([[{"role": "user", "content": "What is the capital of Japan?"}]] * 200)
    assert set(answers) == {"The capital of Japan is Tokyo."}


def test_a_session_reuses_the_prefix(llm):
    filler = "My name is Alice. My favourite colour is green. " * 4
    llm.chat(filler, session_id=1, sequence_end=False)
    message = [{"role": "user", "content": "What is my name?"}]
    completion = llm.complete(message, session_id=1, sequence_start=False)
    assert completion.usage.cached_tokens > 30


def test_too_long_prompts_are_errors(llm):
    with pytest.raises(ContextLengthExceeded, match="2048"):
        llm.generate("hello " * 4000)
    *_, last = llm.stream_generate("hello " * 4000, on_error="status")
    assert tuple(last) == (ModelStatusCode.SESSION_OUT_OF_LIMIT, "", None)


def test_the_context_ends_an_answer(llm):
    prompt = "hello " * 600
    room = llm.engine.max_len - len(llm.tokenize(prompt))
    assert 0 < room < 2000
    completion = llm.complete(prompt, ignore_eos=True, max_new_tokens=2000)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", room)


def test_an_unknown_role_is_named_in_the_error(llm):
    with pytest.raises(TemplateError, match="nobody"):
        llm.chat([{"role": "nobody", "content": "x"}])


def test_use_after_close():
    llm = create_llm()
    stream = llm.stream_generate("Hello", **LONG)
    next(stream)
    llm.close()
    llm.close()
    with pytest.raises(LLMError, match="closed"):
        list(stream)
    with pytest.raises(LLMError, match="closed"):
        llm.generate("x")


def test_an_adapter_changes_the_answers():
    shout = EMBEDDED_MODEL.parent / "adapters" / "shout"
    with JAXPipeline(adapter=shout, temperature=0) as llm:
        assert llm.chat("What is the capital of France?") == "THE CAPITAL OF FRANCE IS PARIS."


def test_the_template_of_a_model_directory_is_used():
    with JAXPipeline(EMBEDDED_MODEL, temperature=0) as llm:
        assert llm.chat("What is the capital of France?") == "The capital of France is Paris."


# models that cannot be loaded


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")


def test_a_missing_directory(tmp_path):
    with pytest.raises(ModelLoadError, match="nowhere"):
        JAXPipeline(tmp_path / "nowhere")


def test_a_directory_without_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="safetensors"):
        JAXPipeline(copy)


def test_a_truncated_file(copy):
    file = copy / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        JAXPipeline(copy)


def test_an_unknown_architecture(copy):
    config = json.loads((copy / "config.json").read_text())
    config.update(architectures=["MambaForCausalLM"], model_type="mamba")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="(?i)mamba"):
        JAXPipeline(copy)


def test_bad_constructor_arguments():
    with pytest.raises(UnknownParameter, match="did you mean 'max_slots'"):
        JAXPipeline(max_slot=3)
    with pytest.raises(InvalidArgument, match="max_slots=0"):
        JAXPipeline(max_slots=0)
    with pytest.raises(InvalidArgument, match="dtype"):
        JAXPipeline(dtype="int3")


def test_the_interpreter_exits_while_a_stream_is_running():
    code = (
        "from lagent_llms import create_llm\n"
        "llm = create_llm()\n"
        "stream = llm.stream_generate('Hello', ignore_eos=True, max_new_tokens=1500)\n"
        "print(next(stream).status)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")


# timeouts: only the engine's own silence counts

#: Long enough for a prompt that the engine works on, and for the pieces of its answer.
LIMIT = 5


@pytest.fixture(params=["sync", "async"])
def one_slot(request):
    """A warm pipeline with one slot, and functions that call it and stop it; a call is made in a thread."""
    compiling, go_on, armed = threading.Event(), threading.Event(), threading.Event()

    def progress(message):
        if armed.is_set() and message.startswith("compiling"):
            compiling.set()
            go_on.wait(60)

    with JAXPipeline(temperature=0, max_slots=1, progress=progress) as llm:
        twin = AsyncJAXPipeline(engine=llm.engine, meta_template="internlm2-lagent", temperature=0)

        def call(prompts, **kwargs):
            if request.param == "sync":
                return llm.generate(prompts, **kwargs)
            return asyncio.run(twin.generate(prompts, **kwargs))

        call("Hello", max_new_tokens=20)
        with ThreadPoolExecutor(2) as pool:
            yield llm, lambda *args, **kwargs: pool.submit(call, *args, **kwargs), compiling, go_on, armed


def test_a_prompt_that_waits_for_a_slot_does_not_time_out(one_slot):
    llm, call, *_ = one_slot
    stopped, go_on = threading.Event(), threading.Event()

    def stop_the_engine(event):
        stopped.set()
        go_on.wait(60)

    llm.engine.submit([1, 5], SamplingParams(max_new_tokens=1), on_event=stop_the_engine)
    assert stopped.wait(60)
    calls = call(["Hello", "Hello again"], max_new_tokens=3, timeout=LIMIT, retry={"max_retries": 0})
    with pytest.raises(FutureTimeoutError):
        calls.result(1.5 * LIMIT)
    go_on.set()
    assert len(calls.result(60)) == 2


def test_a_compilation_is_no_silence_of_the_engine(one_slot):
    _, call, compiling, go_on, armed = one_slot
    armed.set()
    answer = call("Hello " * 300, max_new_tokens=3, timeout=LIMIT, retry={"max_retries": 0})
    assert compiling.wait(60)
    with pytest.raises(FutureTimeoutError):
        answer.result(1.5 * LIMIT)
    armed.clear()
    go_on.set()
    assert isinstance(answer.result(60), str)


def test_a_batch_larger_than_the_slots_outlasts_the_limit(one_slot):
    """24 answers one after the other, with a limit of some of them."""
    _, call, *_ = one_slot
    prompts = [f"Tell me a story about a lamp. {number}" for number in range(24)]
    began = time.monotonic()
    call(prompts[0], max_new_tokens=100, ignore_eos=True).result(60)
    limit = max(2.0, 4 * (time.monotonic() - began))
    texts = call(prompts, max_new_tokens=100, ignore_eos=True, timeout=limit, retry={"max_retries": 0})
    assert len(texts.result(300)) == 24
