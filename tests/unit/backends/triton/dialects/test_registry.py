"""Matching of dialects to models, and the order of the registry."""

import pytest

from lagent_llms import ConfigError, UnsupportedParameter
from lagent_llms.backends.triton import Model, OneModelDialect, dialects, find_dialect, register_dialect
from lagent_llms.backends.triton.dialects import registry
from lagent_llms.backends.triton.model_config import TritonModelConfig
from tests.unit.backends.triton.models import CONFIG, request


def test_required_inputs_and_outputs():
    model = Model(TritonModelConfig.from_json(CONFIG), decoupled=True)
    assert find_dialect(model).name == "trtllm"
    with pytest.raises(ConfigError, match="vllm would need input sampling_parameters"):
        find_dialect(model, "vllm")
    with pytest.raises(UnsupportedParameter, match="seed=1"):
        find_dialect(model).conversation(request(seed=1), model)


def named(dialect):
    """Make a dialect named `dialect` that matches every model with a text_input."""

    class Named(OneModelDialect):
        name = dialect

        def fill(self, request, inputs, model):
            return ()

    return Named()


def test_register_prepends_and_replaces_by_name(monkeypatch):
    monkeypatch.setattr(registry, "_DIALECTS", dict(registry._DIALECTS))
    built_in = dialects()
    first, second, third = named("first"), named("second"), named("first")
    model = Model(TritonModelConfig.from_json(CONFIG), decoupled=True)
    register_dialect(first)
    register_dialect(second)
    assert dialects() == [second, first, *built_in]
    assert find_dialect(model) is second
    register_dialect(third)
    assert dialects() == [third, second, *built_in]
    assert find_dialect(model, "second") is second
    with pytest.raises(ConfigError, match="did you mean 'second'"):
        find_dialect(model, "secnd")
