"""The command that starts lmdeploy: flags and hidden arguments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import InvalidArgument, LMDeployPipeline, MissingDependency, ServerStartError
from lagent_llms.backends.lmdeploy.command import Installation, find_installation, flag_arguments

KNOWN = {"backend": True, "max-batch-size": True, "ssl": False, "adapters": True, "chat-template": True}


LAUNCHER = Path(lagent_llms.__file__).parent / "child" / "launcher.py"


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({}, []),
        ({"max_batch_size": 8}, ["--max-batch-size=8"]),
        ({"--max-batch-size": 8}, ["--max-batch-size=8"]),
        ({"ssl": True}, ["--ssl"]),
        ({"ssl": False, "backend": None}, []),
        ({"backend": "-x"}, ["--backend=-x"]),
        ({"adapters": {"a": "/x", "b": "/y"}}, ["--adapters", "a=/x", "b=/y"]),
        ({"adapters": ["/x"]}, ["--adapters", "/x"]),
        ({"chat_template": {"eos": "</s>"}}, ['--chat-template={"eos": "</s>"}']),
    ],
)
def test_serve_cfg_becomes_flags(given, arguments):
    assert flag_arguments(given, KNOWN) == arguments


def test_flags_of_an_unknown_lmdeploy_are_passed_on():
    assert flag_arguments({"new_flag": True, "other": 3}, None) == ["--new-flag", "--other=3"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_bach_size": 8}, "no flag --max-bach-size; the nearest are max_batch_size"),
        ({"ssl": 3}, "takes no value: allowed is True or False, not 3"),
        ({"server_port": 8000}, "give it as the argument server_port="),
        ({"api_keys": ["x"]}, "give it as the argument api_key="),
    ],
)
def test_bad_flags(given, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        flag_arguments(given, KNOWN)
    assert caught.value.argument == "serve_cfg"


@pytest.mark.parametrize("kind", ["module", "script"])
def test_hidden_arguments_arrive_and_do_not_show_in_the_process_list(tmp_path, kind):
    package = tmp_path / "program"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sibling.py").write_text("HERE = True\n")
    (package / "__main__.py").write_text(
        "import json, sys\n"
        "seen = open('/proc/self/cmdline').read() + open('/proc/self/environ').read()\n"
        "sys.path.insert(0, __file__.rpartition('/')[0])\n"
        "import sibling\n"
        "print(json.dumps([sys.argv[1:], 'sk-hidden' in seen, __name__, sys.stdin.read()]))\n"
    )
    target = ["-m", "program"] if kind == "module" else [str(package / "__main__.py")]
    installation = Installation((sys.executable, *target))
    command, stdin = installation.with_hidden(["serve"], ["--api-keys=sk-hidden"])
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == [["serve", "--api-keys=sk-hidden"], False, "__main__", ""]


def test_a_command_without_hidden_arguments_needs_no_launcher():
    assert Installation(("anything", "run")).with_hidden(["serve"], []) == (["anything", "run", "serve"], b"")


def test_hidden_arguments_need_a_python_program():
    with pytest.raises(InvalidArgument, match="api_key=None"):
        Installation(("docker", "run", "lmdeploy")).with_hidden(["serve"], ["--api-keys=x"])


@pytest.mark.parametrize(
    "head",
    [f"#!{sys.executable}\n", f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\n"],
    ids=["short", "long"],
)
def test_an_installed_script_runs_with_the_python_of_its_first_line(tmp_path, monkeypatch, head):
    script = tmp_path / "lmdeploy"
    script.write_text(head + "import sys; print(sys.argv[1:])\n")
    script.chmod(0o755)
    command, stdin = Installation((str(script),)).with_hidden(["a"], ["b"])
    assert command == [sys.executable, str(LAUNCHER), str(script), "a"]
    done = subprocess.run(command, input=stdin, capture_output=True, text=False, check=True)
    assert done.stdout == b"['a', 'b']\n"


def test_without_lmdeploy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"lagent_llms\[lmdeploy\]"):
        find_installation(None)
    with pytest.raises(MissingDependency, match=r"lagent_llms\[lmdeploy\]"):
        LMDeployPipeline("x")
    with pytest.raises(ServerStartError, match="there is no program 'nowhere'"):
        find_installation("nowhere")
    with pytest.raises(ServerStartError, match="lmdeploy is not installed for"):
        find_installation([sys.executable, "-m", "lmdeploy"])
    with pytest.raises(InvalidArgument, match="command="):
        find_installation([])
