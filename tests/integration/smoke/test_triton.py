"""The extra `triton`: our tensors are tritonclient's, and a channel is opened."""

import socket

import numpy as np
import pytest
from tritonclient.grpc import InferInput, service_pb2

from lagent_llms import ConnectError, TritonClient
from lagent_llms.backends.triton.tensors import Tensor, read_values

VALUES = {"BYTES": ["Hi", "你好", ""], "INT32": [1, -2, 3], "FP32": [0.5, -1.0], "BOOL": [True, False]}
NUMPY = {"BYTES": object, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}


@pytest.mark.parametrize("datatype", VALUES)
def test_a_tensor_is_written_and_read(datatype):
    values = VALUES[datatype]
    theirs = InferInput("x", [len(values)], datatype)
    encoded = [value.encode() for value in values] if datatype == "BYTES" else values
    theirs.set_data_from_numpy(np.array(encoded, dtype=NUMPY[datatype]))
    ours = Tensor("x", datatype, (len(values),), values).raw()
    assert ours == theirs._get_content()
    message = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[ours])
    received = service_pb2.ModelInferRequest.FromString(message.SerializeToString())
    assert read_values(datatype, received.raw_input_contents[0]) == values


def test_a_channel_to_a_port_without_a_server():
    with socket.socket() as bound:  # bound, but it does not listen
        bound.bind(("127.0.0.1", 0))
        llm = TritonClient(f"127.0.0.1:{bound.getsockname()[1]}", "model", max_retries=0, timeout=5)
        with llm, pytest.raises(ConnectError):
            llm.generate("x")
