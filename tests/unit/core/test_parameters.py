"""A call's values over a backend's defaults: checks, unsupported names, aliases."""

from collections import UserList

import numpy
import pytest

from lagent_llms import LMDeployClient, LMDeployServer, LoRAX
from lagent_llms.core.parameters import OTHER_NAMES, ParameterSet, unsupported_names
from lagent_llms.errors import InvalidArgument, UnknownParameter, UnsupportedParameter
from lagent_llms.params import CallOptions, GenerationParams


def merge(unsupported=(), **given):
    return ParameterSet("SomeLLM", unsupported_names(unsupported)).merge(
        GenerationParams(), CallOptions(), given
    )


def test_per_call_values_make_new_tables():
    params, options = GenerationParams(), CallOptions()
    changed, asked = ParameterSet("SomeLLM").merge(
        params, options, {"temperature": 0, "timeout": 3, "top_k": None}
    )
    assert (changed.temperature, changed.top_k, asked.timeout.idle) == (0, None, 3)
    assert (params.temperature, params.top_k, options.timeout.idle) == (0.8, 40, 30)


def test_none_means_the_default_unless_none_is_a_value():
    params, _ = ParameterSet("SomeLLM").merge(
        GenerationParams(temperature=0.3), CallOptions(), {"temperature": None}
    )
    assert params.temperature == 0.3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": "hot"}, r"temperature='hot': allowed is a number of 0 or more"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": True}, "temperature=True"),
        ({"top_p": 2}, "top_p=2: allowed is a number above 0 and at most 1"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_k": -2}, "top_k=-2: allowed is None, an integer of 1 or more, or 0 or -1 (no filter)"),
        ({"top_k": False}, "top_k=False"),
        ({"do_sample": "no"}, "do_sample='no': allowed is True or False"),
        ({"do_sample": True, "temperature": 0}, "do_sample=True: allowed with a temperature above 0"),
        ({"retry": -1}, "retry=-1: allowed is an integer of 0 or more"),
        ({"top_k": 1.5}, "top_k=1.5"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1: allowed is an integer of 1 or more"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": "8"}, "max_new_tokens='8'"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"min_p": 1.5}, "min_p=1.5: allowed is None or a number from 0 to 1"),
        ({"seed": -1}, "seed=-1"),
        ({"stop_words": [""]}, "stop_words"),
        ({"stop_words": ["a", 3]}, "stop_words"),
        ({"stop_words": 3}, "stop_words=3"),
        ({"ignore_eos": 1}, "ignore_eos=1: allowed is True or False"),
        ({"logprobs": 21}, "logprobs=21"),
        ({"n": 0}, "n=0: allowed is an integer from 1 to 128"),
        ({"session_id": "a"}, "session_id='a'"),
        ({"temperature": 10**400}, "temperature=1000"),
        ({"session_id": 2**63}, f"session_id={2**63}: allowed is an integer of 0 or more (at most"),
        ({"timeout": 0}, "timeout=0: allowed is a number of seconds above 0"),
        ({"timeout": "soon"}, "timeout='soon'"),
        ({"on_error": "ignore"}, "on_error='ignore': allowed is 'raise' or 'status'"),
        ({"sequence_start": None, "sequence_end": "no"}, "sequence_end='no'"),
    ],
)
def test_bad_values_name_the_argument_and_what_is_allowed(given, message):
    with pytest.raises(InvalidArgument) as caught:
        merge(**given)
    assert message in str(caught.value)
    assert caught.value.argument in given


@pytest.mark.parametrize("given", [{"priority": 2**63}, {"parameters": {"depth": -(2**63)}}])
def test_integers_of_a_protocol_have_64_bits(given):
    (name,) = given
    with pytest.raises(InvalidArgument, match=rf"{name}=.*2\*\*63 - 1"):
        CallOptions(**given)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownParameter, match="unknown parameter 'temprature', did you mean 'temperature'"):
        merge(temprature=1)


def test_unsupported_names_are_refused_unless_the_value_is_a_no_op():
    with pytest.raises(UnsupportedParameter, match="SomeLLM cannot honour min_p=0.1") as caught:
        merge(["min_p"], min_p=0.1)
    assert (caught.value.parameter, caught.value.backend) == ("min_p", "SomeLLM")
    merge(["min_p"], min_p=None)
    merge(["min_p"], min_p=0)
    merge(["repetition_penalty"], repetition_penalty=1.0)


def test_stop_words_accept_a_string_and_drop_duplicates():
    assert merge(stop_words="a")[0].stop_words == ("a",)
    assert merge(stop_words=["a", "b", "a"])[0].stop_words == ("a", "b")
    assert merge(stop_words=[])[0].stop_words == ()


def test_integral_floats_are_accepted_as_integers():
    assert merge(top_k=40.0)[0].top_k == 40


MERGED = {"ids": ["a", "b"], "weights": [0.5, 0.5]}


def test_adapter_id_is_an_alias_of_adapter_name():
    assert merge(adapter_id="french")[1].adapter_name == "french"
    assert merge(adapter_id="french", adapter_name=None)[1].adapter_name == "french"
    with pytest.raises(
        InvalidArgument, match="adapter_id and adapter_name are the same; only one can be given"
    ):
        merge(adapter_id="french", adapter_name="pirate")
    with pytest.raises(InvalidArgument, match="adapter_id=5"):
        merge(adapter_id=5)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_openais_names_are_aliases(name):
    params, _ = merge(**{name: 5}, stop="x")
    assert (params.max_new_tokens, params.stop_words) == (5, ("x",))
    assert params.given == {"max_new_tokens", "stop_words"}
    params, _ = merge(
        **{name: None}, stop=None, stop_words=["y"], max_new_tokens=7
    )  # as other libraries pass
    assert (params.max_new_tokens, params.stop_words) == (7, ("y",))
    assert merge(**{name: None})[0].given == frozenset()
    with pytest.raises(InvalidArgument, match=f"^{name}=0: allowed is an integer") as caught:
        merge(**{name: 0})
    assert caught.value.argument == name
    with pytest.raises(InvalidArgument, match=f"^{name} and max_new_tokens are the same; only one"):
        merge(**{name: 5}, max_new_tokens=5)
    with pytest.raises(InvalidArgument, match=r"^stop=\['a', 3\]: allowed is"):
        merge(stop=["a", 3])


def test_two_of_openais_names_for_one_parameter():
    for first, second in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
        with pytest.raises(InvalidArgument, match="^max_completion_tokens and max_tokens are the same"):
            merge(**{first: 5, second: 5})


def test_adapter_id_replaces_merged_adapters_and_the_reverse():
    known = ParameterSet("LLM")
    _, merged = known.merge(GenerationParams(), CallOptions(), {"merged_adapters": MERGED})
    _, one = known.merge(GenerationParams(), merged, {"adapter_id": "french"})
    assert (one.adapter_name, one.merged_adapters) == ("french", None)
    _, again = known.merge(GenerationParams(), one, {"merged_adapters": MERGED})
    assert (again.adapter_name, again.merged_adapters) == (None, MERGED)
    _, base = known.merge(GenerationParams(), one, {"adapter_id": None})
    assert (base.adapter_name, base.merged_adapters) == (None, None)
    with pytest.raises(InvalidArgument, match="only one of them"):
        known.merge(GenerationParams(), CallOptions(), {"adapter_id": "french", "merged_adapters": MERGED})
    with pytest.raises(InvalidArgument, match="merged_adapters='french'"):
        known.merge(GenerationParams(), CallOptions(), {"merged_adapters": "french"})


def test_an_opt_in_parameter_is_supported_only_where_a_backend_names_it():
    for given in ({"priority": 1}, {"parameters": {"a": 1}}, {"adapter_source": "hub"}):
        with pytest.raises(UnsupportedParameter, match=next(iter(given))):
            merge(**given)
        _, options = ParameterSet("SomeLLM", unsupported_names((), given)).merge(
            GenerationParams(), CallOptions(), given
        )
        assert [getattr(options, name) for name in given] == list(given.values())
    with pytest.raises(InvalidArgument, match="priority=-1"):
        ParameterSet("SomeLLM", unsupported_names((), ["priority"])).merge(
            GenerationParams(), CallOptions(), {"priority": -1}
        )
    with pytest.raises(InvalidArgument, match="parameters="):
        CallOptions(parameters={"a": [1]})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_output_tokens", "'max_output_tokens', did you mean 'max_new_tokens'?"),
        ("max_length", "did you mean 'max_new_tokens'?"),
        ("stop_sequences", "did you mean 'stop_words'?"),
        ("messages", "did you mean 'inputs'?"),
        ("prompt", "did you mean 'inputs'?"),
        ("top_logprobs", "did you mean 'logprobs'?"),
        ("function_call", "did you mean 'tool_choice'?"),
        ("num_return_sequences", "did you mean 'n'?"),
        ("min_tokens", "did you mean 'min_new_tokens'?"),
        ("stream_options", "'stream_options' (the token counts come"),
        ("model", "'model' (it is given when the object is made"),
        ("base_url", "'base_url' (it is given when the object is made"),
        ("api_key", "'api_key' (it is given when the object is made"),
    ],
)
def test_names_of_other_libraries_are_explained(name, hint):
    with pytest.raises(UnknownParameter) as caught:
        merge(**{name: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "given", "hint"),
    [
        (LMDeployClient, {"model_id": "m"}, "did you mean 'model_name'?"),
        (LMDeployClient, {"api_base": "http://x"}, "did you mean 'url'?"),
        (LMDeployClient, {"max_length": 5}, "did you mean 'max_new_tokens'?"),
        (LMDeployClient, {"messages": []}, "'messages' (it is given to a call"),
        (LMDeployServer, {"model_id": "m"}, "did you mean 'path'?"),
        (LMDeployServer, {"base_url": "http://x"}, "unknown parameter 'base_url'"),
        (LMDeployServer, {"best_of": 2}, "did you mean 'n'?"),
    ],
)
def test_names_of_other_libraries_at_construction(backend, given, hint):
    with pytest.raises(UnknownParameter) as caught:
        backend("http://127.0.0.1:9", **given)
    assert hint in str(caught.value)


def test_every_suggested_name_exists():
    names = {"inputs", "tritonserver_addr", "organization"}
    for backend in (LMDeployClient, LMDeployServer, LoRAX):
        names |= backend.constructor_names()
    assert {name for others in OTHER_NAMES.values() for name in others} <= names
    assert names.isdisjoint(OTHER_NAMES.keys() - {"url"})


@pytest.mark.parametrize("value", [UserList([1]), range(2)])
def test_an_unsupported_parameter_with_an_odd_value_is_refused(value):
    with pytest.raises(UnsupportedParameter, match="SomeLLM cannot honour min_p="):
        merge(("min_p",), min_p=value)


@pytest.mark.parametrize("value", [0, -1, None, numpy.int64(0)])
def test_no_filter_by_other_names(value):
    assert merge(top_k=value)[0].top_k is None


def test_do_sample_is_a_switch_of_the_temperature():
    assert merge(do_sample=False)[0].temperature == 0
    assert merge(do_sample=numpy.False_, temperature=0.5)[0].temperature == 0
    assert merge(do_sample=True, temperature=0.5)[0].temperature == 0.5
    assert merge(do_sample=None)[0].temperature == 0.8


def test_retries_and_rates_have_the_names_of_lagent_and_opencompass():
    _, options = merge(retry=3, query_per_second=5)
    assert (options.retry.max_retries, options.max_per_second) == (3, 5)
    with pytest.raises(InvalidArgument, match="only one can be given"):
        merge(query_per_second=5, max_per_second=4)


#: Arguments of the constructors in lagent and OpenCompass -> the right hint; '' for none.
HINTS = {
    "model_type": "did you mean 'model_name'",
    "api_base": "did you mean 'url'",
    "json_mode": "response_format={'type': 'json_object'}",
    "max_seq_len": "did you mean 'session_len'",
    "max_out_len": "did you mean 'max_new_tokens'",
    "return_dict": "complete()",
    "stop_words_id": "stop_words takes the texts",
    "template_parser": "meta_template says",
    **dict.fromkeys(("tp", "pipeline_cfg", "server_port", "model_kwargs", "orgs", "batch_size"), ""),
}


@pytest.mark.parametrize(("name", "hint"), HINTS.items())
def test_hints_for_names_of_lagent_are_right_or_absent(name, hint):
    with pytest.raises(UnknownParameter) as caught:
        LMDeployClient("http://127.0.0.1:9", **{name: 1})
    told = str(caught.value).partition("; known are")[0]
    assert hint in told
    assert hint or told.endswith(f"unknown parameter {name!r}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frequency_penalty": 2.5}, "frequency_penalty=2.5: allowed is None or a number from -2 to 2"),
        ({"presence_penalty": -3}, "presence_penalty=-3: allowed is None or a number from -2 to 2"),
        ({"min_new_tokens": -1}, "min_new_tokens=-1: allowed is None or an integer of 0 or more"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens=9 is more than max_new_tokens=8"),
        ({"reasoning_effort": ""}, "reasoning_effort=''"),
    ],
)
def test_bad_values_of_opt_in_parameters(given, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        ParameterSet("SomeLLM").merge(GenerationParams(), CallOptions(), given)
    assert caught.value.argument == next(iter(given))
    no_op = {"frequency_penalty": 0, "min_new_tokens": 0, "logit_bias": {}, "n": 1, "extra_body": {}}
    merge(("n",), **no_op)  # accepted everywhere
