"""Dialects of a single model: required inputs, rejected parameters, and the text read."""

import json
from dataclasses import replace

import pytest

from lagent_llms import TritonClient, UnsupportedParameter
from lagent_llms.backends.triton import find_dialect
from lagent_llms.backends.triton.http_messages import JSONResponse
from lagent_llms.backends.triton.model_config import TensorSpec
from lagent_llms.backends.triton.text_delta import OutputStyle
from lagent_llms.testing import ScriptedLLM
from tests.unit.backends.triton.models import SMALL, bare, request


@pytest.mark.parametrize("dialect", SMALL)
def test_sampling_parameters_are_never_dropped(dialect):
    model = SMALL[dialect]
    assert find_dialect(model, dialect).conversation(ScriptedLLM().prepare("hi", {}).request, model)
    neutral = {"temperature": 1, "top_k": None, "top_p": 1}
    assert find_dialect(model, dialect).conversation(ScriptedLLM(**neutral).prepare("hi", {}).request, model)
    for given in ({"temperature": 0}, {"temperature": 0.5}, {"top_k": 1}, {"top_p": 0.1}):
        (name,) = given
        for prepared in (ScriptedLLM(**given).prepare("hi", {}), ScriptedLLM().prepare("hi", given)):
            with pytest.raises(UnsupportedParameter, match=f"{name}=.* no input"):
                find_dialect(model, dialect).conversation(prepared.request, model)


VLLM = bare("sampling_parameters")
LMDEPLOY = SMALL["lmdeploy"]


@pytest.mark.parametrize(("dialect", "model"), [("vllm", VLLM), ("lmdeploy", LMDEPLOY)])
@pytest.mark.parametrize(
    ("style", "responses"),
    [
        ({"cumulative": None, "echo": None}, ["a", "ab", "abc"]),
        ({"cumulative": True, "echo": None}, ["a", "aab", "aababc"]),
        ({"cumulative": None, "echo": True}, ["hia", "ab", "abc"]),
        ({"cumulative": True, "echo": True}, ["hia", "hiaab", "hiaababc"]),
    ],
)
def test_explicit_output_style_precedes_detection(dialect, model, style, responses):
    styled = replace(model, output_style=OutputStyle(**style))
    reader = find_dialect(model, dialect).reader(request(), styled)
    outputs = [JSONResponse({"text_output": text, "response": text}) for text in responses]
    pieces = [piece for output in outputs if (piece := reader.feed(output)) is not None]
    assert "".join(piece.text for piece in [*pieces, reader.finish()]) == "aababc"


class Ends:
    """A tokenizer whose end token is 7."""

    decodes = False

    def special(self, word):
        return [7] if word == "<EOS>" else []


@pytest.mark.parametrize(("datatype", "no_token"), [("INT32", -1), ("UINT32", 2**32 - 1)])
@pytest.mark.parametrize("optional", [True, False])
def test_end_id_of_tensorrt_llm(datatype, no_token, optional):
    spec = TensorSpec("end_id", datatype, (1,), optional)
    config = SMALL["trtllm"].config
    model = replace(
        SMALL["trtllm"],
        config=replace(config, inputs={**config.inputs, "top_k": spec, "end_id": spec}),
        tokenizer=Ends(),
    )

    def sent(**given):
        conversation = find_dialect(model, "trtllm").conversation(request(**given), model)
        return {tensor.name: tensor.values for tensor in conversation.request.inputs}.get("end_id")

    assert sent(ignore_eos=True) == (no_token,)
    assert sent() == (None if optional else (7,))


@pytest.mark.parametrize("dialect", SMALL)
def test_what_a_model_has_no_input_for_is_refused(dialect):
    model = SMALL[dialect]
    llm = TritonClient("http://127.0.0.1:9", temperature=1, top_k=None, top_p=1)
    given = {"frequency_penalty": 1, "presence_penalty": 1, "min_new_tokens": 2, "logit_bias": {3: 1}}
    for name, value in given.items():
        with pytest.raises(UnsupportedParameter, match=f"cannot honour {name}=") as caught:
            find_dialect(model, dialect).conversation(llm.prepare("hi", {name: value}).request, model)
        assert caught.value.parameter == name


def test_sampling_server_sends_the_limit_and_what_was_given():
    llm = TritonClient("http://127.0.0.1:9", sampling="server")
    for given in ({}, {"temperature": 0.5, "logit_bias": {7: -1}, "min_new_tokens": 3}):
        conversation = find_dialect(VLLM, "vllm").conversation(llm.prepare("hi", given).request, VLLM)
        (sent,) = [item for item in conversation.request.inputs if item.name == "sampling_parameters"]
        fields = json.loads(sent.values[0])
        names = {"max_tokens", "skip_special_tokens"}
        assert fields.keys() == (names | {"temperature", "logit_bias", "min_tokens"} if given else names)
