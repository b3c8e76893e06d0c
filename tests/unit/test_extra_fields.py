"""Further fields of requests: what is allowed, how a body gets them, and which are refused by name."""

import json

import numpy as np
import pytest

from lagent_llms import InvalidArgument, JAXClient, LMDeployClient, LoRAX, OpenAIClient, create_llm
from lagent_llms.extra_fields import extra_body, extra_inputs, logit_bias

HI = [{"role": "user", "content": "hi"}]
CLIENTS = [
    OpenAIClient("http://a", "m", flavour="vllm"),
    LMDeployClient("http://a", "m"),
    JAXClient("http://a", "m"),
    LoRAX("http://a", model_name="m"),
]


def sent(llm, inputs=HI, **given):
    return json.loads(llm._call(llm.prepare(inputs, given).request, "m").request.body)


@pytest.mark.parametrize("llm", CLIENTS, ids=lambda llm: type(llm).__name__)
@pytest.mark.parametrize("inputs", [HI, "hi"], ids=["chat", "prompt"])
def test_every_client_over_http_adds_fields_last(llm, inputs):
    if isinstance(llm, LoRAX) and inputs == "hi":
        body = sent(llm, inputs, extra_body={"parameters": {"typical_p": 0.5}})
        assert body.pop("parameters").pop("typical_p") == 0.5
    else:
        body = sent(llm, inputs, extra_body={"typical_p": 0.5, "nested": {"list": [1, None]}})
        assert list(body)[-2:] == ["typical_p", "nested"]
        assert body["nested"] == {"list": [1, None]}
    assert sent(llm, inputs, extra_body={}) == sent(llm, inputs)


def test_the_keys_of_a_call_replace_those_of_the_constructor():
    config = {"type": "LMDeployClient", "url": "http://a", "model_name": "m", "extra_body": {"a": 1, "b": 1}}
    llm = create_llm(config)
    body = sent(llm, extra_body={"b": 2}, chat_template_kwargs={"x": 1})
    assert (body["a"], body["b"], body["chat_template_kwargs"]) == (1, 2, {"x": 1})
    body = sent(llm, extra_body={"chat_template_kwargs": {"y": 2}}, chat_template_kwargs={"x": 1})
    assert body["chat_template_kwargs"] == {"x": 1, "y": 2}
    assert sent(llm)["b"] == 1
    assert "a" not in sent(llm, extra_body=None)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"temperature": 1}, r"extra_body\['temperature'\]: .* give the parameter temperature="),
        ({"max_tokens": 1}, r"extra_body\['max_tokens'\]: .* give the parameter max_new_tokens="),
        ({"messages": []}, r"extra_body\['messages'\]: the request has this field already$"),
        ({"stream_options": {"include_usage": False}}, r"extra_body\['stream_options'\]\['include_usage'\]"),
        ({"n": 2}, r"extra_body\['n'\]: give the parameter n="),
        ({"a": float("nan")}, "extra_body"),
        ({"a": {"b": object()}}, "extra_body"),
        ("a=1", "extra_body='a=1': allowed is None or a dict"),
    ],
)
def test_a_conflict_is_refused_by_name(extra, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        sent(CLIENTS[1], temperature=0, extra_body=extra)
    assert caught.value.argument == "extra_body"


def test_what_the_servers_default_decides_may_be_an_extra_field():
    assert sent(CLIENTS[0], extra_body={"temperature": 0.5})["temperature"] == 0.5


def test_values_of_other_types():
    assert logit_bias("logit_bias", {"7": 1, np.int64(8): np.float32(-0.5)}) == {7: 1, 8: -0.5}
    assert extra_body("extra_body", {"a": np.array([1, 2])}) == {"a": [1, 2]}
    assert extra_inputs("extra_inputs", {"a": (1, 2), "b": np.array([0.5]), "c": "x"}) == {
        "a": [1, 2], "b": [0.5], "c": "x"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (logit_bias, {"Paris": 1}, "logit_bias: 'Paris' is no token id"),
        (logit_bias, {-1: 1}, "logit_bias: -1 is no token id"),
        (logit_bias, {True: 1}, "logit_bias: True is no token id"),
        (logit_bias, {1: 101}, r"logit_bias\[1\]=101: allowed is a number from -100 to 100"),
        (logit_bias, [1], r"logit_bias=\[1\]: allowed is None or a dict"),
        (extra_inputs, {"a": []}, r"extra_inputs\['a'\]=\[\]: allowed is a value"),
        (extra_inputs, {"a": {"b": 1}}, r"extra_inputs\['a'\]"),
        (extra_inputs, ["a"], "extra_inputs"),
    ],
)
def test_refused_values(check, value, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        check(check.__name__, value)
    assert caught.value.argument == check.__name__
