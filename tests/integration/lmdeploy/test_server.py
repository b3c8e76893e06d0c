"""LMDeployServer: the real command line in a child process; start, API key, failures, end."""

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import (
    AsyncLMDeployServer,
    AuthenticationError,
    InvalidArgument,
    LLMError,
    LMDeployClient,
    LMDeployServer,
    ServerStartError,
    StreamInterrupted,
    create_llm,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.backends.lmdeploy.command import find_installation
from lagent_llms.child.ports import check_port
from tests import lmdeploy_peer as peers
from tests.alone import run_alone
from tests.stranger import Stranger
from tests.waiting import until, wait_until

from .questions import COUNT, DIALOGS, FRANCE, PARIS

GREEDY = {"temperature": 0, "max_new_tokens": 64, "meta_template": "internlm2-lagent"}


@pytest.fixture(scope="module")
def command():
    return peers.command()


@pytest.fixture(scope="module")
def arguments(command):
    return {"path": EMBEDDED_MODEL, "model_name": peers.NAME, "server_port": 0, "command": command, **GREEDY}


@pytest.fixture(scope="module")
def server(arguments):
    with LMDeployServer(**arguments, serve_cfg=peers.PYTORCH) as server:
        yield server


def exists(pid):
    return Path(f"/proc/{pid}").exists()


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


# a server, and a client of it


def test_answers_equal_those_of_jax(server, jax):
    assert server.chat(DIALOGS) == jax.chat(DIALOGS)
    completion, expected = server.complete(FRANCE), jax.complete(FRANCE)
    assert completion.usage.completion_tokens == len(expected.token_ids)


def test_the_server_gets_serve_cfg(server):
    assert set(server.models()) == {peers.NAME, "shout", "french", "pirate"}
    assert server.chat(FRANCE, adapter_name="shout") == PARIS.upper()


async def test_the_asynchronous_server(arguments, jax):
    llm = AsyncLMDeployServer(**arguments)
    pid = llm.pid
    assert exists(pid)
    assert await asyncio.gather(*(llm.chat(dialog) for dialog in DIALOGS)) == jax.chat(DIALOGS)
    await llm.aclose()
    assert not exists(pid)
    with pytest.raises(LLMError, match="is closed"):
        await llm.chat(FRANCE)


def test_a_configuration_as_in_mindsearch(arguments):
    config = {
        **arguments,
        "type": LMDeployServer,
        "meta_template": lagent_llms.INTERNLM2_META,
        "top_p": 0.8,
        "top_k": 1,
        "temperature": 0,
        "max_new_tokens": 8192,
        "repetition_penalty": 1.02,
        "stop_words": ["<|im_end|>"],
    }
    with create_llm(config) as llm:
        # The context of the embedded model is 2048 tokens; the server generates no more than fit.
        assert llm.chat(FRANCE, max_new_tokens=64) == PARIS
        assert llm.chat(FRANCE) == PARIS


def test_at_the_command_line(command, tmp_path):
    config = {"type": "LMDeployServer", "path": str(EMBEDDED_MODEL), "model_name": peers.NAME,
              "server_port": 0, "command": command, **GREEDY}  # fmt: skip
    file = tmp_path / "llm.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    done = subprocess.run(
        [sys.executable, "-c", "from lagent_llms.cli import main; main()",
         "chat", FRANCE[0]["content"], "--config", str(file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, PARIS + "\n"), done.stderr


# the key


def test_the_key_is_random_and_not_visible_to_other_processes(server):
    key = server.api_key
    assert len(key) >= 32
    seen = [repr(server), str(vars(server.endpoints)), server.log_tail]
    for pid in [server.pid, server._child._supervisor.pid, *children(server.pid)]:
        for name in ("cmdline", "environ"):
            seen.append(Path(f"/proc/{pid}/{name}").read_text(errors="replace"))
    seen.append(subprocess.run(["ps", "auxeww"], capture_output=True, text=True, check=True).stdout)
    assert not [text for text in seen if key in text]
    with LMDeployClient(server.url, peers.NAME) as without_key, pytest.raises(AuthenticationError):
        without_key.chat(FRANCE)
    with LMDeployClient(server.url, peers.NAME, api_key=key, **GREEDY) as with_key:
        assert with_key.chat(FRANCE) == PARIS


def test_an_explicit_key_and_no_key(arguments):
    with LMDeployServer(**arguments, api_key="-my key") as llm:
        assert llm.chat(FRANCE) == PARIS
        with LMDeployClient(llm.url, peers.NAME) as without_key, pytest.raises(AuthenticationError):
            without_key.chat(FRANCE)
    with (
        LMDeployServer(**arguments, api_key=None) as llm,
        LMDeployClient(llm.url, peers.NAME, **GREEDY) as without_key,
    ):
        assert without_key.chat(FRANCE) == PARIS


def test_a_proxy_in_the_environment_is_ignored(arguments, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with LMDeployServer(**arguments) as llm:
        assert llm.chat(FRANCE) == PARIS


# it does not start


def test_an_unknown_flag(arguments, command):
    with pytest.raises(InvalidArgument, match="no flag --max-bach-size; the nearest are max_batch_size"):
        LMDeployServer(**arguments, serve_cfg={"max_bach_size": 8})
    installed = find_installation(command)
    assert installed.version.startswith("0.18")
    assert len(installed.flags) > 60
    assert installed.flags["tp"]
    assert not installed.flags["disable-metrics"]


def test_all_flags_are_found(command):
    """The flags parsed from lmdeploy's source equal those of ``--help``."""
    helped = subprocess.run(
        [*command, "serve", "api_server", "--help"], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    listed = {word.strip(",").removeprefix("--") for word in helped.split() if word.startswith("--")}
    known = set(find_installation(command).flags)
    assert known - listed == set()
    assert known <= listed


def test_a_port_in_use(arguments):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"0.0.0.0:{port} cannot be listened on: Address already"):
            LMDeployServer(**{**arguments, "server_port": port})


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_a_missing_path(arguments, path):
    with pytest.raises(ServerStartError, match="there is no such file or directory"):
        LMDeployServer(**{**arguments, "path": path})


def test_an_exit_while_loading_is_an_error_with_the_log(arguments, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Nonsense"], "model_type": "nonsense"}')
    log = tmp_path / "log"
    with pytest.raises(ServerStartError, match="exited with code 1") as caught:
        LMDeployServer(**{**arguments, "path": tmp_path}, log_file=log)
    assert "Traceback" in caught.value.log_tail
    assert caught.value.log_tail.splitlines()[-1] in log.read_text()
    assert pickle.loads(pickle.dumps(caught.value)).log_tail == caught.value.log_tail

    async def asynchronously():
        async with AsyncLMDeployServer(**{**arguments, "path": tmp_path}):
            pass

    with pytest.raises(ServerStartError, match="exited with code 1") as caught:
        asyncio.run(asynchronously())
    assert "Traceback" in caught.value.log_tail


def test_startup_has_a_time_limit(arguments):
    said = []
    before = set(children(os.getpid()))
    with pytest.raises(ServerStartError, match="was not ready after 0.5 s"):
        LMDeployServer(**arguments, start_timeout=0.5, progress=said.append)
    assert said[0].startswith("lmdeploy's api_server is starting, 0 s")
    assert set(children(os.getpid())) <= before


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_another_server_at_the_port_gets_no_key_and_no_prompt(arguments, cls):
    port, strangers = check_port("0.0.0.0", 0), []

    def progress(text):  # the port has been found free, and lmdeploy loads
        if not strangers:
            strangers.append(Stranger("127.0.0.1", port, peers.NAME))

    async def asynchronously():
        async with cls(**{**arguments, "server_port": port}, progress=progress) as llm:
            await llm.chat(FRANCE)

    with pytest.raises(ServerStartError, match=f"port {port} of 127.0.0.1: another process listens there"):
        if cls is LMDeployServer:
            cls(**{**arguments, "server_port": port}, progress=progress).chat(FRANCE)
        else:
            asyncio.run(asynchronously())
    strangers[0].close()
    assert strangers[0].received == []


def test_the_names_of_the_models_identify_the_server(server):
    """Where the sockets of the server's processes cannot be seen."""
    assert server._serves(["x", peers.NAME])
    assert not server._serves(["x"])


# it exits later


def test_a_crash_is_noticed_by_the_next_call(arguments):
    llm = LMDeployServer(**arguments)
    assert llm.chat(FRANCE) == PARIS
    os.kill(llm.pid, signal.SIGKILL)
    assert wait_until(lambda: llm._child.ended())
    for call in (lambda: llm.chat(FRANCE), lambda: llm.tokenize("x"), llm.models):
        with pytest.raises(ServerStartError, match="was killed by SIGKILL") as caught:
            call()
        assert "Uvicorn running" in caught.value.log_tail
        assert llm.api_key not in str(caught.value)
    llm.close()


def test_a_crash_during_a_stream(arguments):
    with LMDeployServer(**arguments) as llm:
        stream = llm.stream_chat(COUNT, ignore_eos=True, max_new_tokens=1500)
        for number, _ in enumerate(stream):
            if number == 8:
                break
        os.kill(llm.pid, signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(StreamInterrupted) as caught:
            for _ in stream:
                pass
        assert time.monotonic() - killed < 5  # one second is required; the machine may be busy
        assert caught.value.partial.startswith("1, 2")
        assert wait_until(lambda: llm._child.ended())
        with pytest.raises(ServerStartError, match="was killed by SIGKILL"):
            llm.chat(FRANCE)


def test_restart(arguments):
    with LMDeployServer(**arguments, restart=True) as llm:
        first = llm.pid
        llm.chat(FRANCE, session_id=1, sequence_end=False)
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: llm._child.ended())
        assert llm.chat(FRANCE, session_id=1, sequence_start=False) == PARIS
        assert llm.pid != first


async def test_restart_asynchronously(arguments):
    async with AsyncLMDeployServer(**arguments, restart=True) as llm:
        os.kill(llm.pid, signal.SIGKILL)
        await until(llm._child.ended)
        assert await asyncio.gather(*(llm.chat(FRANCE) for _ in range(5))) == [PARIS] * 5


# forks


@pytest.mark.parametrize("executable", ["python", "/bin/false"])
def test_forked_workers_use_the_server_of_their_parent(arguments, executable):
    code = """
        import json, multiprocessing, sys
        from lagent_llms import LMDeployServer

        def ask(messages):
            return llm.chat(messages), llm._child.ended()

        if sys.argv[2] != "python":
            sys.executable = sys.argv[2]  # a program that embeds Python
        arguments, dialog = json.loads(sys.argv[1])
        llm = LMDeployServer(**arguments)
        answers = {llm.chat(dialog)}
        for _ in range(2):
            with multiprocessing.get_context("fork").Pool(3) as pool:
                answers |= {answer for answer, ended in pool.map(ask, [dialog] * 9) if ended is None}
        answers.add(llm.chat(dialog))
        llm.close()
        print(*answers, llm._child.ended(), sep="|")
    """
    given = json.dumps([{**arguments, "path": str(EMBEDDED_MODEL)}, FRANCE])
    assert run_alone(code, given, executable) == f"{PARIS}|was killed by SIGTERM\n"


# it ends


def test_close_leaves_no_process(arguments):
    llm = LMDeployServer(**arguments)
    pids = [llm.pid, llm._child._supervisor.pid, *children(llm.pid)]
    stream = llm.stream_chat(COUNT, ignore_eos=True, max_new_tokens=1500)
    next(stream)
    llm.close()
    assert not [pid for pid in pids if exists(pid)]
    with socket.create_server(("0.0.0.0", llm.server_port)):
        pass
    with pytest.raises(LLMError, match="is closed"):
        llm.chat(FRANCE)
    llm.close()


OWNER = """
    import os, signal, sys, time
    from lagent_llms import LMDeployServer
    llm = LMDeployServer({path!r}, {name!r}, server_port=0, command={command!r})
    print(llm.pid, llm._child._supervisor.pid, llm.server_port, flush=True)
    {ending}
"""


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit(0)",
        "raise RuntimeError('oops')",
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)",
        "stream = llm.stream_generate('x', ignore_eos=True); next(stream); os.kill(os.getpid(), 9)",
    ],
    ids=["exit", "exception", "sigterm", "sigkill", "sigkill in mid-stream"],
)
def test_no_orphan_after_the_owner_ends(command, ending):
    code = textwrap.dedent(OWNER).format(
        path=str(EMBEDDED_MODEL), name=peers.NAME, command=command, ending=ending
    )
    root = Path(lagent_llms.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    *pids, port = map(int, done.stdout.split())
    assert wait_until(lambda: not [pid for pid in pids if exists(pid)])
    with socket.create_server(("0.0.0.0", port)):
        pass
