"""EasyDeL's further names: constructors that work, and hints where there is another name."""

import pytest

from lagent_llms import JAXServer, JAXServerConfig
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.errors import ConfigError, InvalidArgument, ModelLoadError, UnknownParameter


def test_pages_always_stream():
    assert JAXServerConfig(stream_tokens_for_gradio=True).stream_tokens_for_gradio
    with pytest.raises(InvalidArgument, match="stream_tokens_for_gradio=False: allowed is True"):
        JAXServerConfig.of({"stream_tokens_for_gradio": False})
    assert JAXServerConfig(top_k=0).top_k is None


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("max_sequence_length", "max_length"),
        ("pre_compile", "compilation cache"),
        ("tempratur", "'temperature'"),
    ],
)
def test_keys_of_other_versions_say_what_to_use(key, hint):
    with pytest.raises(ConfigError, match=f"unknown key '{key}'.*{hint}"):
        JAXServerConfig.of({key: 1})


def test_attributes_of_other_versions_say_what_to_use():
    server = JAXServer()
    with pytest.raises(AttributeError, match="no attribute 'sample'; use process"):
        _ = server.sample
    with pytest.raises(AttributeError, match="no attribute 'nothing'$"):
        _ = server.nothing


def test_from_torch_pretrained_loads_a_directory():
    with JAXServer.from_torch_pretrained({"max_length": 64}, EMBEDDED_MODEL) as server:
        assert server.ready
        assert server.config.max_length == 64
    with pytest.raises(ModelLoadError, match="/nope"):
        JAXServer.from_torch_pretrained(None, "/nope")
    with pytest.raises(UnknownParameter, match="'device'; server_config has dtype"):
        JAXServer.from_torch_pretrained(None, "/nope", device="cpu")
