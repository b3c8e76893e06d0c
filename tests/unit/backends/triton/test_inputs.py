"""Input tensors in the datatypes and shapes of the model's config."""

import struct

import pytest

from lagent_llms import ConfigError, InvalidArgument
from lagent_llms.backends.triton.inputs import RequestInputs
from lagent_llms.backends.triton.model_config import TritonModelConfig
from tests.unit.backends.triton.models import CONFIG


def test_inputs_are_shaped_by_the_config():
    inputs = RequestInputs(TritonModelConfig.from_json(CONFIG))
    assert inputs.put("text_input", "你好")
    assert inputs.put(("seed", "top_p"), 1)
    assert not inputs.put("seed", 1)
    assert inputs.put("pairs", 1, 2, 3, 4, 5, 6)
    assert inputs.put("max_tokens", 9)
    text, top_p, pairs, _ = inputs.tensors
    assert (text.shape, pairs.shape) == ((1, 1), (1, 2, 3))
    assert text.raw() == b"\x06\x00\x00\x00" + "你好".encode()
    assert top_p.raw() == struct.pack("<f", 1.0)


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 2**31), ("top_k", -(2**31) - 1), ("top_p", 1e39)])
def test_value_out_of_range_of_the_input(name, value):
    with pytest.raises(InvalidArgument, match=f"{name}=.*: the model's input is (INT|FP)32") as caught:
        RequestInputs(TritonModelConfig.from_json(CONFIG)).put(name, value)
    assert caught.value.argument == name


def required(**types):
    inputs = [{"name": name, "data_type": f"TYPE_{kind}", "dims": [-1]} for name, kind in types.items()]
    return RequestInputs(TritonModelConfig.from_json({"name": "llm", "input": inputs}))


def test_required_inputs_are_filled_with_values_that_change_nothing():
    inputs = required(
        text_input="STRING", bad_words="STRING", stop_words="STRING", return_log_probs="BOOL",
        beam_width="UINT32", temperature="FP32", len_penalty="FP32", sampling_param_top_k="INT32",
        runtime_top_p="FP32", random_seed="UINT64",
    )  # fmt: skip
    inputs.put("text_input", "hi")
    inputs.put("stop_words", "a", "b")
    values = {tensor.name: list(tensor.values) for tensor in inputs.tensors}
    assert isinstance(values.pop("random_seed")[0], int)
    assert values == {
        "text_input": ["hi"], "stop_words": ["a", "b"], "bad_words": [""], "return_log_probs": [False],
        "beam_width": [1], "temperature": [1.0], "len_penalty": [1.0], "sampling_param_top_k": [0],
        "runtime_top_p": [1.0],
    }  # fmt: skip


def test_a_required_input_without_such_a_value_is_named():
    with pytest.raises(ConfigError, match=r"'llm' requires the input pixels FP32\[-1\]"):
        required(pixels="FP32").tensors  # noqa: B018


def test_extra_inputs_take_the_types_of_the_config():
    inputs = RequestInputs(TritonModelConfig.from_json(CONFIG))
    inputs.put("text_input", "hi")
    inputs.add(
        {"stop_words": ["a", "b"], "top_p": 1, "stream": False, "pairs": [1, 2, 3, 4], "max_tokens": 3}
    )
    values = {tensor.name: (tensor.shape, list(tensor.values)) for tensor in inputs.tensors}
    assert values["stop_words"] == ((1, 2), ["a", "b"])
    assert values["top_p"] == ((1, 1), [1.0])
    assert values["pairs"] == ((1, 2, 2), [1, 2, 3, 4])
    assert values["stream"] == ((1, 1), [False])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"text_input": "x"},
            r"extra_inputs\['text_input'\]='x': a parameter or the client itself sets it",
        ),
        ({"top_q": 1}, r"extra_inputs\['top_q'\]=1: model 'llm' has no such input; it has max_tokens, pairs"),
        ({"top_k": 1.5}, r"extra_inputs\['top_k'\]=1.5: the model's input is INT32"),
        ({"top_k": 2**40}, r"extra_inputs: top_k=.* INT32"),
        ({"stop_words": [1]}, r"extra_inputs\['stop_words'\]=\[1\]: the model's input is BYTES"),
        ({"stream": 1}, r"extra_inputs\['stream'\]=1: the model's input is BOOL"),
    ],
)
def test_extra_inputs_that_are_refused(extra, message):
    inputs = RequestInputs(TritonModelConfig.from_json(CONFIG))
    inputs.put("text_input", "hi")
    with pytest.raises(InvalidArgument, match=message) as caught:
        inputs.add(extra)
    assert caught.value.argument == "extra_inputs"
