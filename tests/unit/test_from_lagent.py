"""lagent's class names: the table, its warnings, the arguments of each class, and the page docs/lagent.md."""

import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import AsyncOpenAIClient, OpenAIClient, create_llm
from lagent_llms.errors import InvalidArgument, UnknownParameter
from lagent_llms.from_lagent import COUNTERPARTS, SAME_NAMES, counterpart
from lagent_llms.from_lagent.base_api import AsyncBaseAPILLM, BaseAPILLM
from lagent_llms.from_lagent.openai import GPTAPI, AsyncGPTAPI
from lagent_llms.params import PARAMETERS

PAGE = (Path(lagent_llms.__file__).parents[1] / "docs" / "lagent.md").read_text(encoding="utf-8")
HI = [{"role": "user", "content": "hi"}, {"role": "environment", "content": "42"}]
ROUTE = "http://127.0.0.1:9/v1/chat/completions"


@pytest.mark.parametrize("name", ["GPTAPI", "AsyncGPTAPI", "BaseAPILLM", "AsyncBaseAPILLM"])
def test_importing_a_name_of_lagent_warns_once_at_the_callers_line(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(f"\nfrom lagent_llms import {name}", "caller.py", "exec"), {})
    (warning,) = caught
    assert (warning.category, warning.filename, warning.lineno) == (DeprecationWarning, "caller.py", 2)
    assert str(warning.message) == (
        f"{name} is lagent's name; the class of lagent_llms is {COUNTERPARTS[name].ours}"
    )


@pytest.mark.parametrize("name", [name for name, row in COUNTERPARTS.items() if not row.module])
def test_a_name_without_counterpart_is_an_import_error_of_one_sentence(name):
    with pytest.raises(
        ImportError, match=f"^lagent's {name} has no counterpart in lagent_llms: .*OpenAIClient"
    ):
        exec(f"from lagent_llms import {name}")


def test_every_row_says_what_to_use():
    for name, row in COUNTERPARTS.items():
        assert bool(row.module) != bool(row.reason), name
        assert row.ours in lagent_llms.__all__
    assert set(SAME_NAMES) <= set(lagent_llms.__all__)
    assert COUNTERPARTS.keys().isdisjoint(lagent_llms.__all__)


def test_nothing_of_a_class_is_imported_before_it_is_used():
    code = "import sys, lagent_llms.from_lagent; print(*[m for m in sys.modules if 'from_lagent.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_the_page_has_every_name():
    table = PAGE.partition("| lagent | here | notes |")[2].partition("\n\n")[0]
    names = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if row)))
    rows = {*SAME_NAMES, *COUNTERPARTS}
    assert {name.removeprefix("Async") for name in rows} <= names
    assert names - {"TritonClient"} <= rows


def test_the_programs_of_the_page_run():
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(programs) == 4
    for program in programs:
        exec(compile(program, "docs/lagent.md", "exec"), {})


# GPTAPI


def test_gptapi_takes_lagents_arguments_in_their_order(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    llm = GPTAPI("gpt-4o", 3, True, ["secret"], "mine", [{"role": "user", "api_role": "USER"}], ROUTE)
    assert isinstance(llm, OpenAIClient)
    assert (llm.model_name, llm.endpoints.urls) == ("gpt-4o", ("http://127.0.0.1:9",))
    assert llm.options.retry.max_retries == 3
    assert llm.params.response_format == {"type": "json_object"}
    assert llm._transport_options["api_key"] == "secret"
    assert llm._transport_options["headers"] == {"OpenAI-Organization": "mine"}
    assert llm.template_parser(HI[:1]) == [{"role": "USER", "content": "hi"}]
    assert GPTAPI()._transport_options["api_key"] == "of the environment"
    assert GPTAPI().model_name == "gpt-3.5-turbo"


def test_gptapi_sends_lagents_defaults_and_maps_lagents_roles():
    llm = GPTAPI("m", openai_api_base=ROUTE, flavour="vllm")
    given = llm.params.given
    assert given == {"max_new_tokens", "top_p", "temperature"}
    assert llm.gen_params == {"max_new_tokens": 512, "top_p": 0.8, "temperature": 0.8}
    assert llm.prepare(HI, {}).request.messages[1]["role"] == "system"
    assert not GPTAPI("o1-mini", api_base=ROUTE).params.given
    assert GPTAPI("m", api_base=ROUTE, repetition_penalty=0.0).params.given == given


def test_gptapi_wraps_contents_in_the_texts_of_the_template_as_lagent_does():
    meta = [{"role": "user", "api_role": "user", "begin": "<", "end": ">"}]
    assert GPTAPI("m", api_base=ROUTE, meta_template=meta).template_parser(HI[:1])[0]["content"] == "<hi>"
    assert GPTAPI("m", api_base=ROUTE, meta_template=None).template_parser(HI) == HI


def test_gptapi_and_parameters_that_lagent_sends_otherwise():
    with pytest.warns(DeprecationWarning, match="top_k"):
        llm = GPTAPI("m", api_base=ROUTE, top_k=1, repetition_penalty=1.02)
    own = "frequency_penalty" if "frequency_penalty" in PARAMETERS else "repetition_penalty"
    assert getattr(llm.params, own) == 1.02
    assert "top_k" not in llm.params.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"key": ["a", "b"]}, "key: 2 values; allowed is one"),
        ({"org": []}, "org: 0 values"),
        ({"json_mode": "yes"}, "json_mode='yes': allowed is True or False"),
        ({"api_base": ROUTE, "openai_api_base": ROUTE}, "are the same"),
        ({"base_url": ROUTE}, "unknown parameter 'base_url', lagent's name is 'api_base'"),
        ({"modle_type": "m"}, "did you mean 'model_type'"),
        ({"proxies": "http://proxy"}, "proxies: allowed is None or a dict"),
    ],
)
def test_bad_arguments_of_gptapi(given, message):
    with pytest.raises((InvalidArgument, UnknownParameter), match=re.escape(message)):
        GPTAPI(**given)


def test_gptapi_in_configurations_and_pickles():
    config = {"type": GPTAPI, "model_type": "m", "api_base": ROUTE}
    assert type(create_llm(config)) is GPTAPI
    twin = create_llm(config, asynchronous=True)
    assert type(twin) is AsyncGPTAPI
    assert isinstance(twin, AsyncOpenAIClient)
    assert type(create_llm({**config, "type": "lagent_llms.from_lagent.openai.GPTAPI"})) is GPTAPI
    assert pickle.loads(pickle.dumps(create_llm(config))).template_parser(HI)[1]["role"] == "system"


# BaseAPILLM

META = [{"role": "user", "api_role": "USER"}, {"role": "environment", "api_role": "system"}]


class Mine(BaseAPILLM):
    """A client of an application, as lagent's documentation has them."""

    def generate(self, inputs, **gen_params):
        return inputs, self.update_gen_params(**gen_params)


class Streaming(AsyncBaseAPILLM):
    async def generate(self, inputs, session_ids=None, **gen_params):
        return inputs, session_ids, gen_params

    async def stream_chat(self, inputs, **gen_params):
        yield 1, self.template_parser(inputs)[0]["role"], None


async def test_subclasses_of_base_api_llm_work_as_in_lagent():
    llm = Mine("m", 2, meta_template=META, temperature=0.5, stop_words="x")
    messages, params = llm.chat(HI, top_p=1)
    assert [one["role"] for one in messages] == ["USER", "system"]
    assert params == {
        "max_new_tokens": 512,
        "top_p": 1,
        "top_k": 40,
        "temperature": 0.5,
        "repetition_penalty": 0.0,
        "stop_words": ["x"],
        "skip_special_tokens": False,
    }
    assert len(llm.chat([HI, HI])[0]) == 2
    assert (llm.model_type, llm.retry, llm.meta_template, llm.is_api) == ("m", 2, META, True)
    twin = Streaming("m", meta_template=META)
    assert await twin.chat(HI[:1], 7, seed=1) == ([{"role": "USER", "content": "hi"}], 7, {"seed": 1})
    assert [chunk async for chunk in twin.stream_chat(HI)] == [(1, "USER", None)]


async def test_a_subclass_that_defines_nothing_says_what_to_define():
    for text in ("hi", HI):
        with pytest.raises(NotImplementedError, match="BaseAPILLM: define generate or chat, and stream_chat"):
            BaseAPILLM("m", meta_template=META).chat(text)
        with pytest.raises(NotImplementedError, match="AsyncBaseAPILLM"):
            await AsyncBaseAPILLM("m", meta_template=META).chat(text)


def test_counterpart_without_importing():
    with pytest.warns(DeprecationWarning, match="OpenAIClient"):
        assert counterpart("GPTAPI") is GPTAPI
