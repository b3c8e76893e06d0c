"""OpenAI's names of constructor arguments on every backend."""

import pickle
import warnings

import pytest

from lagent_llms import (
    AsyncLMDeployClient,
    AsyncTritonClient,
    JAXClient,
    LMDeployClient,
    LMDeployServer,
    LoRAX,
    OpenAIClient,
    TritonClient,
)
from lagent_llms.errors import InvalidArgument
from lagent_llms.testing import ScriptedLLM

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "cls",
    [LMDeployClient, AsyncLMDeployClient, JAXClient, LoRAX, OpenAIClient, TritonClient, AsyncTritonClient],
)
def test_the_names_mean_those_of_the_class(cls):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm = cls(base_url=URL, model="m", max_tokens=5, stop="x")
    plain = cls(URL, model_name="m", max_new_tokens=5, stop_words="x")
    assert repr(llm) == repr(plain)
    assert (llm.params, llm.options) == (plain.params, plain.options)
    again = pickle.loads(pickle.dumps(llm))
    assert (repr(again), again.params) == (repr(llm), llm.params)


def test_a_model_is_a_path_where_the_backend_takes_one():
    assert LMDeployServer.canonical({"model": "m", "tp": 2}) == {"path": "m", "tp": 2}
    assert "model" not in LMDeployServer.constructor_names()


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ((URL,), {"base_url": URL}, "base_url and url are the same; only one can be given"),
        ((), {"url": URL, "base_url": URL}, "base_url and url are the same; only one can be given"),
        ((URL, "m"), {"model": "m"}, "model and model_name are the same; only one can be given"),
        ((), {"base_url": "ftp://x"}, "base_url='ftp://x': allowed is an http or https URL"),
        ((), {"base_url": URL, "model": 5}, "model=5"),
        ((), {"base_url": URL, "top_p": 2}, "top_p=2"),
    ],
)
def test_errors_name_the_argument_as_the_caller_does(args, given, message):
    with pytest.raises(InvalidArgument) as caught:
        LMDeployClient(*args, **given)
    assert str(caught.value).startswith(message)
    assert caught.value.argument in given


def test_a_class_of_the_callers_keeps_its_own_names():
    class Mine(LMDeployClient):
        def __init__(self, model, **kwargs):
            self.model = model
            super().__init__(URL, **kwargs)

    llm = Mine(model="mine", model_name="m")
    assert (llm.model, llm.model_name) == ("mine", "m")
    assert pickle.loads(pickle.dumps(LMDeployClient(URL, model="m"))).model_name == "m"

    class Passes(LMDeployClient):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)

    llm = Passes(base_url=URL, model="m")
    assert repr(llm) == "Passes('http://127.0.0.1:9', model_name='m')"
    assert llm._arguments == ((), {"url": URL, "model_name": "m"})


def test_none_is_not_given():
    assert LMDeployClient(URL, base_url=None, model=None).model_name is None
    with pytest.raises(TypeError, match="unknown parameter 'model'"):
        ScriptedLLM(model="m")
