"""A model's config, as gRPC and HTTP send it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import ServerError
from lagent_llms.backends.triton.model_config import TritonModelConfig
from tests.unit.backends.triton.models import CONFIG


def test_config_from_grpc_and_http():
    config = TritonModelConfig.from_json(CONFIG)
    assert (config.max_batch_size, config.decoupled) == (8, True)
    assert str(config.inputs["pairs"]) == "pairs INT32[2, -1] optional"
    assert config.inputs["text_input"].datatype == "BYTES"
    assert config.settings == {"accumulate_tokens": "true"}


@pytest.mark.parametrize(
    "config", [[], None, "x", {"input": [{}]}, {"max_batch_size": "many"}, {"parameters": {"a": 1}}]
)
def test_invalid_config(config):
    with pytest.raises(ServerError, match="cannot be read"):
        TritonModelConfig.from_json(config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "dims", "string_value", "step", "decoupled"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*CONFIG, "ensemble_scheduling"]), JSON))
def test_any_json_is_a_config_or_a_server_error(changes):
    for config in (changes, {**CONFIG, **changes}):
        with contextlib.suppress(ServerError):
            TritonModelConfig.from_json(config)


def test_an_infinite_number_is_a_server_error():
    with pytest.raises(ServerError, match="model config that cannot be read"):
        TritonModelConfig.from_json({"name": "m", "max_batch_size": float("inf")})
