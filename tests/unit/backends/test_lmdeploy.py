"""Parts of the lmdeploy backends that run without lmdeploy: flags, hidden arguments, versions, texts."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import (
    AsyncLMDeployServer,
    InvalidArgument,
    LMDeployClient,
    LMDeployPipeline,
    LMDeployServer,
    MissingDependency,
    ServerStartError,
    UnsupportedParameter,
)
from lagent_llms.backends.lmdeploy.command import Installation, find_installation, flag_arguments
from lagent_llms.backends.lmdeploy.engine import _check_version
from lagent_llms.backends.lmdeploy.versions import check_version
from lagent_llms.child.ports import check_free, check_port, connect_host
from lagent_llms.protocols.special_tokens import vocabulary_text

KNOWN = {"backend": True, "max-batch-size": True, "ssl": False, "adapters": True, "chat-template": True}
LAUNCHER = Path(lagent_llms.__file__).parent / "child" / "launcher.py"


# serve_cfg


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


# the command and its hidden arguments


@pytest.mark.parametrize("kind", ["module", "script"])
def test_hidden_arguments_arrive_and_are_not_seen(tmp_path, kind):
    package = tmp_path / "told"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "friend.py").write_text("HERE = True\n")
    (package / "__main__.py").write_text(
        "import json, sys\n"
        "seen = open('/proc/self/cmdline').read() + open('/proc/self/environ').read()\n"
        "sys.path.insert(0, __file__.rpartition('/')[0])\n"
        "import friend\n"
        "print(json.dumps([sys.argv[1:], 'sk-hidden' in seen, __name__, sys.stdin.read()]))\n"
    )
    target = ["-m", "told"] if kind == "module" else [str(package / "__main__.py")]
    installation = Installation((sys.executable, *target))
    command, stdin = installation.with_hidden(["serve"], ["--api-keys=sk-hidden"])
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == [["serve", "--api-keys=sk-hidden"], False, "__main__", ""]


def test_nothing_to_hide_needs_no_launcher():
    assert Installation(("anything", "run")).with_hidden(["serve"], []) == (["anything", "run", "serve"], b"")


def test_a_program_that_is_not_python_takes_no_hidden_arguments():
    with pytest.raises(InvalidArgument, match="api_key=None"):
        Installation(("docker", "run", "lmdeploy")).with_hidden(["serve"], ["--api-keys=x"])


@pytest.mark.parametrize(
    "head",
    [f"#!{sys.executable}\n", f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\n"],
    ids=["short", "long"],
)
def test_an_installed_script_names_its_python(tmp_path, monkeypatch, head):
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
def test_a_path_that_is_not_there(cls, tmp_path):
    with pytest.raises(ServerStartError, match="there is no such file or directory"):
        cls(tmp_path / "nothing", server_port=0, command="true", api_key=None)


def test_pipeline_options_are_a_dict():
    with pytest.raises(InvalidArgument, match="pipeline_cfg="):
        LMDeployPipeline("x", pipeline_cfg=["max_batch_size"])


def test_an_api_key_does_not_show_in_errors():
    key = "sk-visible"
    with pytest.raises(ServerStartError) as caught:
        LMDeployServer("org/model", server_port=0, command="false", api_key=None)
    assert caught.value.log_tail == ""
    with pytest.raises(InvalidArgument) as refused:
        LMDeployServer("org/model", server_port=0, command="false", api_key=key)
    assert key not in str(refused.value)


# ports


def test_ports():
    port = check_port("127.0.0.1", 0)
    check_free("127.0.0.1", port)
    assert check_port("127.0.0.1", 23333) == 23333
    assert [connect_host(name) for name in ("0.0.0.0", "::", "::1", "myhost")] == [
        "127.0.0.1", "[::1]", "[::1]", "myhost",
    ]  # fmt: skip
    with pytest.raises(ServerStartError, match="cannot be listened on"):
        check_free("203.0.113.1", 1)


# versions


def test_an_unknown_version_warns_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_version("0.18.0") == (0, 18)
        assert check_version("0.6.0a1") == (0, 6)
    with pytest.warns(UserWarning, match=r"lmdeploy 0\.99\.1 is unknown"):
        check_version("0.99.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_version("0.99.1") == (0, 99)
    with pytest.warns(UserWarning, match="lmdeploy next"):
        check_version("next")


def test_the_pipeline_needs_a_newer_lmdeploy():
    _check_version("0.17.0")
    _check_version("0.18.0")
    with pytest.raises(MissingDependency, match=r"lmdeploy 0\.12\.3 is too old .* needs 0\.17 or newer"):
        _check_version("0.12.3")


# requests of the client


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("Ġcapital", " capital"),
        ("Ċ", "\n"),
        ("▁capital", " capital"),
        ("ä½ł", "你"),
        ("ä½", "ä½"),
        ("é", "é"),
        ("plain", "plain"),
        ("<|im_end|>", "<|im_end|>"),
        ("你", "你"),
        ("", ""),
    ],
)
def test_texts_of_vocabulary_entries(entry, text):
    assert vocabulary_text(entry) == text


def sent(llm, prompt="hi", **kwargs):
    request = llm.prepare(prompt, kwargs).request
    return json.loads(llm.answer_call(request, "m").request.body)


def test_only_special_tokens_are_left_to_the_server_to_stop_at():
    llm = LMDeployClient("host", "m")
    words = [
        "<|im_end|>",
        "</s>",
        "[UNUSED_TOKEN_145]",
        "<｜end｜>",
        "Observation:",
        ".",
        "<b",
        "a </s> b",
        "[1]",
    ]
    assert sent(llm, stop_words=words)["stop"] == words[:4]
    assert "stop" not in sent(llm, stop_words=words, ignore_eos=True)
    assert "stop" not in sent(llm, stop_words="Observation:")


def test_what_prompts_cannot_have_is_refused_before_anything_is_sent():
    llm = LMDeployClient("host", "m")
    for name, value in [("logprobs", 2), ("response_format", {"type": "x"}), ("tool_choice", "auto")]:
        with pytest.raises(UnsupportedParameter, match=name):
            sent(llm, **{name: value})
        assert sent(llm, [{"role": "user", "content": "hi"}], **{name: value})["messages"]
