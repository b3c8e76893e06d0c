"""LMDeployPipeline: lmdeploy.pipeline in this process, on either engine. Runs where lmdeploy is installed."""

import asyncio
import gc
import json
import re
import sys
import threading
import weakref

import pytest

from lagent_llms import (
    AsyncLMDeployPipeline,
    BatchError,
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    LMDeployPipeline,
    ModelLoadError,
    ModelStatusCode,
    ServerError,
    SessionOutOfLimit,
    TimeoutExceeded,
    UnsupportedParameter,
    create_llm,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from tests import lmdeploy_peer as peers
from tests.waiting import until, wait_until

from . import seed
from .questions import COUNT, DIALOGS, FRANCE, PARIS, user

GREEDY = {"temperature": 0, "max_new_tokens": 64}
LONG = {"ignore_eos": True, "max_new_tokens": 1500}
SHOUT = {"adapters": {"shout": str(peers.ADAPTERS / "shout")}}


@pytest.fixture(scope="module", autouse=True)
def install_cpu_engine():
    if not peers.REAL:
        sys.path.insert(0, str(peers.ROOT / "tests" / "peers" / "lmdeploy"))
        import cpu_engine

        cpu_engine.install()


@pytest.fixture(scope="module", params=["turbomind", "pytorch"])
def llm(request):
    cfg = SHOUT if request.param == "pytorch" else {"enable_prefix_caching": False}
    with LMDeployPipeline(
        EMBEDDED_MODEL,
        peers.NAME,
        backend=request.param,
        pipeline_cfg={"max_batch_size": 16, **cfg},
        meta_template="internlm2-lagent",
        **GREEDY,
    ) as llm:
        yield llm


@pytest.fixture
def async_llm(llm):
    """An asynchronous pipeline on the same engine."""

    class SharedEngine(AsyncLMDeployPipeline):
        def _load(self, *args):
            return llm._engine

        async def aclose(self):
            pass

    return SharedEngine(EMBEDDED_MODEL, meta_template="internlm2-lagent", **GREEDY)


def running(llm):
    return llm._engine._engine.session_mgr.request_handle_pool.num_dispatched


# answers


@pytest.mark.parametrize("number", range(len(DIALOGS)))
def test_greedy_answers_equal_those_of_jax_token_for_token(llm, jax, number):
    completion, expected = llm.complete(DIALOGS[number]), jax.complete(DIALOGS[number])
    assert completion.token_ids == expected.token_ids
    assert (completion.text, completion.finish_reason, completion.stop_word) == (
        expected.text, expected.finish_reason, expected.stop_word,
    )  # fmt: skip
    assert completion.usage.prompt_tokens == expected.usage.prompt_tokens


def test_lmdeploys_own_template(llm, jax):
    """Without a template of ours, lmdeploy applies the model's template to messages."""
    llm.template, ours = None, llm.template
    try:
        assert llm.chat(DIALOGS) == jax.chat(DIALOGS)
    finally:
        llm.template = ours


def test_generate_a_batch(llm, jax):
    prompts = [f"<|im_start|>user\nWhat is the capital of {country}?<|im_end|>\n<|im_start|>assistant\n"
               for country in ("France", "Japan", "Italy")]  # fmt: skip
    assert llm.generate(prompts) == jax.generate(prompts)
    assert "".join(llm.stream_text(prompts[1])) == jax.generate(prompts[1])


def test_repetition_penalty_is_kept_when_greedy(llm, jax):
    """With do_sample=False, lmdeploy would ignore the penalty."""
    given = {"repetition_penalty": 2.5, "max_new_tokens": 40}
    assert llm.complete(COUNT, **given).token_ids == jax.complete(COUNT, **given).token_ids
    assert llm.complete(COUNT, **given).token_ids != llm.complete(COUNT, max_new_tokens=40).token_ids


def test_temperature_and_top_k_may_be_none(llm):
    """Both raise errors in lagent's own wrapper."""
    assert llm.chat(FRANCE, temperature=0, top_k=None) == PARIS
    assert llm.chat(FRANCE, temperature=None) == PARIS  # None is the default, which is 0 here
    assert llm.chat(FRANCE, temperature=1, top_k=None, top_p=0.1)
    with pytest.raises(InvalidArgument, match="temperature=2.5: lmdeploy allows 0 to 2"):
        llm.chat(FRANCE, temperature=2.5)


def test_do_preprocess_applies_the_template(llm):
    question = FRANCE[0]["content"]
    assert llm.generate(question, do_preprocess=True) == PARIS
    assert llm.generate([question] * 2, do_preprocess=True) == [PARIS] * 2
    for untouched in ({}, {"do_preprocess": False}, {"do_preprocess": None}):
        assert llm.generate(question, **untouched) != PARIS


def test_return_dict(llm, jax):
    answer = llm.generate("1, 2, 3, ", return_dict=True, max_new_tokens=5)
    expected = jax.complete("1, 2, 3, ", max_new_tokens=5)
    assert answer == {
        "text": expected.text,
        "generate_token_len": 5,
        "input_token_len": expected.usage.prompt_tokens,
        "finish_reason": "length",
        "token_ids": list(expected.token_ids),
        "logprobs": None,
        "index": 0,
    }
    first, second = llm.generate(["1, 2, 3, "] * 2, return_dict=True, max_new_tokens=5, logprobs=2)
    assert (first["index"], second["index"], first["token_ids"]) == (0, 1, second["token_ids"])
    assert [len(row) for row in first["logprobs"]] == [2] * 5


def test_logprobs_equal_those_of_jax(llm, jax):
    ours, expected = (one.complete(FRANCE, logprobs=2).logprobs for one in (llm, jax))
    assert [item.token_id for item in ours] == [item.token_id for item in expected]
    assert [item.token for item in ours] == [item.token for item in expected]
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)
        assert [top[1] for top in mine.top] == [top[1] for top in theirs.top]


def test_response_format(llm):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = llm.chat(user("Is this fine?"), response_format=wanted)
    assert json.loads(answer).keys() == {"ok"}
    assert llm.chat(FRANCE, response_format=["x.y", "[z]"]) in ("x.y", "[z]")
    assert re.fullmatch("[XZ]{3}", llm.chat(FRANCE, response_format=re.compile("[XZ]{3}")))
    assert llm.parse(FRANCE, bool) in (True, False)
    with pytest.raises(InvalidArgument):
        llm.chat(FRANCE, response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}})


def test_adapters(llm):
    if llm.backend == "pytorch":
        assert llm.chat(FRANCE, adapter_name="shout") == PARIS.upper()
        assert llm.chat(FRANCE) == PARIS
    loaded = "shout" if llm.backend == "pytorch" else "none"
    with pytest.raises(InvalidArgument, match=f"adapter_name='whisper': loaded are {loaded}"):
        llm.chat(FRANCE, adapter_name="whisper")


def test_tool_choice_is_unsupported(llm):
    with pytest.raises(UnsupportedParameter, match="tool_choice"):
        llm.chat(FRANCE, tool_choice="auto")


# failures are errors, not ''


def test_a_prompt_that_is_too_long(llm):
    with pytest.raises(ContextLengthExceeded, match="model context length"):
        llm.generate("x " * 3000)
    with pytest.raises(BatchError) as caught:
        llm.generate(["hi", "x " * 3000, "hi"], max_new_tokens=4)
    assert isinstance(caught.value.results[1], ContextLengthExceeded)
    assert caught.value.results[0] == caught.value.results[2] != ""
    *_, last = llm.stream_generate("x " * 3000, on_error="status")
    assert last.status == ModelStatusCode.SESSION_OUT_OF_LIMIT


@pytest.mark.cpu_engine
def test_an_engine_that_fails(llm):
    with pytest.raises(ServerError, match="internal server error") as caught:
        llm.chat(user("[[error 5]] Count from 1 to 60."))
    assert caught.value.partial
    with pytest.raises(ServerError, match="unavailable") as caught:
        llm.generate("[[stop 0]]")
    assert caught.value.code == "engine_unavailable"
    with pytest.raises(TimeoutExceeded) as caught:
        llm.generate("[[first 60]]", timeout=0.3)
    assert caught.value.phase == "first_token"
    assert wait_until(lambda: running(llm) == 0)
    assert llm.chat(FRANCE) == PARIS


# streams, concurrency


def test_leaving_a_stream_stops_the_generation(llm):
    for leave in ("close", "del"):
        stream = llm.stream_chat(COUNT, **LONG)
        next(stream)
        assert running(llm) == 1
        if leave == "close":
            stream.close()
        del stream
        gc.collect()
        assert wait_until(lambda: running(llm) == 0)


async def test_cancelling_a_task_stops_the_generation(llm, async_llm):
    assert await async_llm.chat(DIALOGS[:3]) == llm.chat(DIALOGS[:3])
    assert (await async_llm.generate("1, 2, ", return_dict=True, max_new_tokens=3))["generate_token_len"] == 3
    task = asyncio.create_task(async_llm.chat(COUNT, **LONG))
    await until(lambda: running(llm), task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not running(llm))


async def test_many_streams_half_of_them_closed(llm, async_llm):
    async def one(number):
        stream = async_llm.stream_chat(COUNT, **({"max_new_tokens": 20} if number % 2 else LONG))
        async for chunk in stream:
            if number % 2 == 0 and len(chunk.text) > 3:
                stream.close()
        return stream.completion is not None

    assert await asyncio.gather(*map(one, range(60))) == [n % 2 == 1 for n in range(60)]
    await until(lambda: not running(llm))


def test_threads(llm):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(llm.chat(FRANCE))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [PARIS] * 20


def test_sessions(llm):
    opened = {"session_id": 3, "sequence_end": False}
    llm.chat(user("My name is Alice."), **opened)
    llm.chat(FRANCE, sequence_start=False, **opened)
    assert "Alice" in llm.chat(user("What is my name?"), session_id=3, sequence_start=False)


# options


def test_options_reach_the_engine():
    with LMDeployPipeline(
        EMBEDDED_MODEL,
        peers.NAME,
        tp=1,
        pipeline_cfg={"max_batch_size": 3, "cache_max_entry_count": 0.5, "log_level": "ERROR"},
        backend="turbomind",
        session_len=128,
        meta_template="internlm2-lagent",
        **GREEDY,
    ) as llm:
        config = llm._engine._engine.backend_config
        assert type(config).__name__ == "TurbomindEngineConfig"
        assert (config.max_batch_size, config.cache_max_entry_count, config.session_len) == (3, 0.5, 128)
        assert llm.chat(FRANCE) == PARIS
        with pytest.raises(SessionOutOfLimit):
            llm.chat(FRANCE, max_new_tokens=120)


def test_an_engine_configuration_object_is_accepted():
    from lmdeploy import ChatTemplateConfig, PytorchEngineConfig

    config = PytorchEngineConfig(max_batch_size=2, session_len=256, adapters=SHOUT["adapters"])
    begin, end = "<|im_start|>{}\n", "<|im_end|>\n"
    template = ChatTemplateConfig(
        "base", user=begin.format("user"), eoh=end, assistant=begin.format("assistant"), eoa=end
    )
    with LMDeployPipeline(
        EMBEDDED_MODEL,
        pipeline_cfg={"backend_config": config, "chat_template_config": template},
        adapter_name="shout",
        **GREEDY,
    ) as llm:
        assert llm.backend == "pytorch"
        assert llm._engine.session_len == 256
        assert llm.chat(FRANCE) == PARIS.upper()
        assert repr(llm) == f"LMDeployPipeline({str(EMBEDDED_MODEL)!r}, backend='pytorch')"
    with pytest.raises(InvalidArgument, match="is a PytorchEngineConfig, but backend='turbomind'"):
        LMDeployPipeline(EMBEDDED_MODEL, pipeline_cfg={"backend_config": config}, backend="turbomind")


def test_an_option_of_one_engine_selects_this_engine():
    with create_llm(
        {"type": "LMDeployPipeline", "path": str(EMBEDDED_MODEL), "pipeline_cfg": SHOUT, **GREEDY}
    ) as llm:
        assert llm.backend == "pytorch"
        assert llm.chat(FRANCE, adapter_name="shout") == PARIS.upper()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pipeline_cfg": {"max_bach_size": 3}}, "no such option; the nearest are max_batch_size"),
        ({"pipeline_cfg": SHOUT, "backend": "turbomind"}, "only the pytorch engine has this option"),
        ({"pipeline_cfg": {"num_tokens_per_iter": 1, **SHOUT}}, "only the turbomind engine has this option"),
        ({"pipeline_cfg": {"backend_config": {"tpp": 1}}}, r"pipeline_cfg\['tpp'\]: lmdeploy has no such"),
        ({"tp": 0}, "tp must be a positive integer"),
        ({"pipeline_cfg": {"dtype": "float7"}, "backend": "pytorch"}, "the pytorch engine refuses"),
        ({"backend": "tensorrt"}, "backend='tensorrt': allowed is None, 'turbomind' or 'pytorch'"),
    ],
)
def test_bad_options(given, message):
    with pytest.raises(InvalidArgument, match=message):
        LMDeployPipeline(EMBEDDED_MODEL, **given)


def test_a_missing_path():
    with pytest.raises(ModelLoadError, match="/nowhere/model"):
        LMDeployPipeline("/nowhere/model")


@pytest.mark.cpu_engine
def test_close_frees_the_engine():
    llm = LMDeployPipeline(EMBEDDED_MODEL, backend="turbomind", **GREEDY)
    model = weakref.ref(llm._engine._engine.engine.model)
    stream = llm.stream_chat(COUNT, **LONG)
    next(stream)
    threads = threading.active_count()
    llm.close()
    # The running step may still hold a reference for a moment.
    assert wait_until(lambda: gc.collect() is not None and model() is None)
    assert threading.active_count() < threads
    with pytest.raises(LLMError, match="closed"):
        for _ in stream:
            pass
    for call in (llm.generate, llm.tokenize):
        with pytest.raises(LLMError, match="is closed"):
            call("hi")
    llm.close()


def test_seed_003(capsys):
    names = seed.run(seed.PIPELINE, seed.PIPELINE_GENERATE, seed.STREAM_CHAT, path=EMBEDDED_MODEL)
    assert isinstance(names["response"], str)
    assert names["status"] == ModelStatusCode.END
    assert capsys.readouterr().out.strip().endswith(names["res"].strip())
