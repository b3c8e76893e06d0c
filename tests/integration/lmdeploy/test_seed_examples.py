"""The examples of seed 003 run as written."""

import sys

import pytest

from lagent_llms import ModelStatusCode
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.child.ports import check_port
from tests import lmdeploy_peer as peers

from . import seed


@pytest.fixture
def lmdeploy_on_the_path(tmp_path, monkeypatch):
    """The examples name no command, so lmdeploy must be on PATH."""
    python, _script = peers.command()
    program = tmp_path / "lmdeploy"
    program.write_text(
        f"#!{python}\nimport sys\nsys.path.insert(0, {str(peers.ROOT / 'tests/peers/lmdeploy')!r})\n"
        "import launch\nlaunch.main()\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def check(names, printed):
    assert isinstance(names["response"], str)
    assert names["status"] == ModelStatusCode.END
    assert names["res"]
    lines = printed.splitlines()
    assert lines[-1].startswith(lines[0])


def test_client(capsys):
    with peers.served(
        "serve", "api_server", str(EMBEDDED_MODEL), "--model-name", "internlm2-chat-7b"
    ) as peer:
        names = seed.run(seed.CLIENT, seed.GENERATE, seed.STREAM_CHAT, url=peer.url)
        check(names, capsys.readouterr().out)
        # "Your service addr" is often written without http://
        seed.run(seed.CLIENT, seed.GENERATE, url=peer.url.removeprefix("http://"))


@pytest.mark.cpu_engine
def test_server(capsys, lmdeploy_on_the_path):
    port = check_port("0.0.0.0", 0)
    names = seed.run(seed.SERVER, seed.GENERATE, seed.STREAM_CHAT, path=EMBEDDED_MODEL, port=port)
    check(names, capsys.readouterr().out)
    assert sys.executable not in names["chatbot"]._command[0]
