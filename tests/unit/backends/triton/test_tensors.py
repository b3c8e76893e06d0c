"""Tensors in Triton's wire format."""

import pytest

from lagent_llms import ServerError
from lagent_llms.backends.triton.tensors import Tensor, read_strings, read_values


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BYTES", ["", "a", "你好"]),
        ("UINT64", [2**63]),
        ("INT32", [-1, 7]),
        ("BOOL", [True, False]),
        ("FP64", [0.1]),
    ],
)
def test_tensor_round_trip(datatype, values):
    raw = Tensor("x", datatype, (len(values),), values).raw()
    assert read_values(datatype, raw) == values
    assert read_values(datatype, raw, 1) == values[1:]


def test_invalid_tensor():
    assert read_strings(b"\x02\x00\x00\x00\xe4\xbd") == ["\ufffd"]
    with pytest.raises(ServerError, match="BF16"):
        read_values("BF16", b"")


def test_values_beyond_the_end_of_a_tensor():
    assert read_values("INT32", b"\x01\0\0\0", 5) == read_values("INT32", b"", 2, 9) == []
    with pytest.raises(ServerError, match="cut off"):
        read_strings(b"\x02\0")
