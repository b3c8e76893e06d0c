"""Arguments that are refused before a server starts."""

import pytest

from lagent_llms import AsyncLMDeployServer, InvalidArgument, LMDeployServer, ServerStartError


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"tp": 0}, "tp"),
        ({"server_port": 70000}, "server_port"),
        ({"server_port": True}, "server_port"),
        ({"serve_cfg": ["--tp", "2"]}, "serve_cfg"),
    ],
)
def test_bad_arguments_start_nothing(cls, arguments, name):
    with pytest.raises(InvalidArgument, match=f"{name}=") as caught:
        cls("model", command="true", api_key=None, **arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_a_missing_path(cls, tmp_path):
    with pytest.raises(ServerStartError, match="there is no such file or directory"):
        cls(tmp_path / "nothing", server_port=0, command="true", api_key=None)


def test_an_api_key_does_not_show_in_errors():
    key = "sk-visible"
    with pytest.raises(ServerStartError) as caught:
        LMDeployServer("org/model", server_port=0, command="false", api_key=None)
    assert caught.value.log_tail == ""
    with pytest.raises(InvalidArgument) as refused:
        LMDeployServer("org/model", server_port=0, command="false", api_key=key)
    assert key not in str(refused.value)
