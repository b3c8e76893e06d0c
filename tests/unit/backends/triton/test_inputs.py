"""Input tensors in the datatypes and shapes of the model's config."""

import struct

import pytest

from lagent_llms import InvalidArgument
from lagent_llms.backends.triton.inputs import RequestInputs
from lagent_llms.backends.triton.model_config import TritonModelConfig
from tests.unit.backends.triton.models import CONFIG


def test_inputs_are_shaped_by_the_config():
    inputs = RequestInputs(TritonModelConfig.from_json(CONFIG))
    assert inputs.put("text_input", "你好")
    assert inputs.put(("seed", "top_p"), 1)
    assert not inputs.put("seed", 1)
    assert inputs.put("pairs", 1, 2, 3, 4, 5, 6)
    text, top_p, pairs = inputs.tensors
    assert (text.shape, pairs.shape) == ((1, 1), (1, 2, 3))
    assert text.raw() == b"\x06\x00\x00\x00" + "你好".encode()
    assert top_p.raw() == struct.pack("<f", 1.0)


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 2**31), ("top_k", -(2**31) - 1), ("top_p", 1e39)])
def test_value_out_of_range_of_the_input(name, value):
    with pytest.raises(InvalidArgument, match=f"{name}=.*: the model's input is (INT|FP)32") as caught:
        RequestInputs(TritonModelConfig.from_json(CONFIG)).put(name, value)
    assert caught.value.argument == name
