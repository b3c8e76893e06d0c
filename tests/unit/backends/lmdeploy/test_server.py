"""Arguments that are refused before a server starts; forks; other processes at the server's port."""

import asyncio
import os
import re
import shlex
import signal
import sys
import threading
from pathlib import Path

import pytest

from lagent_llms import (
    AsyncLMDeployServer,
    ConfigError,
    InvalidArgument,
    LMDeployServer,
    ServerStartError,
    UnknownParameter,
    create_llm,
)
from lagent_llms.child.ports import check_port
from tests.alone import run_alone
from tests.stranger import Stranger
from tests.waiting import wait_until

HELLO, VANISH = [{"role": "user", "content": "hello"}], [{"role": "user", "content": "vanish"}]


@pytest.fixture
def command(tmp_path):
    """A command whose server listens at once; no Python program, so that any Python can run it."""
    script = tmp_path / "lmdeploy"
    server = Path(__file__).with_name("api_server.py")
    script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(server)])} "$@"\n')
    script.chmod(0o755)
    return str(script)


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
def test_a_url_is_no_argument(cls):
    with pytest.raises(UnknownParameter, match="unknown parameter 'base_url'; known are"):
        cls("model", command="true", api_key=None, base_url="http://127.0.0.1:1")
    config = {"type": cls.__name__.removeprefix("Async"), "path": "model", "url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigError, match=f"unknown key 'url' for {cls.__name__}"):
        create_llm(config, asynchronous=cls is AsyncLMDeployServer)


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


# forks

FORK = """
    import asyncio, os, signal, sys, threading, time
    from lagent_llms import AsyncLMDeployServer, LMDeployServer, ServerStartError

    command, asynchronous = sys.argv[1], sys.argv[2] == "async"
    HELLO = [{"role": "user", "content": "hello"}]
    options = dict(server_name="127.0.0.1", server_port=0, command=command, api_key=None, stop_timeout=0.5)

    def make(**more):
        return (AsyncLMDeployServer if asynchronous else LMDeployServer)("org/model", "m", **options, **more)

    def done(result):
        async def wait():
            return await result
        return asyncio.run(wait()) if asynchronous else result

    def close(llm):
        return done(llm.aclose() if asynchronous else llm.close())

    def in_a_fork(work):
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # a deadlock ends the fork
            work()
            sys.stdout.flush()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
"""

USED = """
    llm = make()
    expected = f"answered by {llm.pid}"
    assert done(llm.chat(HELLO)) == expected

    def work():
        assert done(llm.chat(HELLO)) == expected
        close(llm)

    in_a_fork(work)
    in_a_fork(work)
    assert done(llm.chat(HELLO)) == expected
    close(llm)
    print(llm._child.ended())
"""

ENDED = """
    llm = make(restart=True)
    first = llm.pid
    assert done(llm.chat(HELLO)) == f"answered by {first}"
    os.kill(first, signal.SIGKILL)
    while not llm._child.ended():
        time.sleep(0.01)

    def work():
        try:
            print(done(llm.chat(HELLO)))
        except ServerStartError as error:
            print(error)

    in_a_fork(work)
    assert done(llm.chat(HELLO)) == f"answered by {llm.pid}" != f"answered by {first}"
    pid = os.fork()
    if pid == 0:  # of the new server, which then ends
        while not llm._child.ended():
            time.sleep(0.01)
        work()
        sys.stdout.flush()
        os._exit(0)
    os.kill(llm.pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    close(llm)
"""

HELD = """
    llm = make()
    assert done(llm.chat(HELLO))
    held, over = threading.Event(), threading.Event()

    def hold():
        with llm._start_lock:
            held.set()
            over.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()

    def work():
        llm._ready = False  # as during a start
        print(done(llm.chat(HELLO)) == f"answered by {llm.pid}")

    in_a_fork(work)
    over.set()
    close(llm)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
class TestForks:
    def run(self, code, command, kind):
        return run_alone(FORK + code, command, kind)

    def test_a_fork_uses_the_server_and_does_not_end_it(self, command, kind):
        assert self.run(USED, command, kind) == "was killed by SIGTERM\n"

    def test_a_fork_starts_no_server_in_place_of_one_that_has_ended(self, command, kind):
        first, second = self.run(ENDED, command, kind).splitlines()
        assert first == "lmdeploy's api_server was killed by SIGKILL"
        assert re.fullmatch(r"lmdeploy's api_server has ended; process \d+ started it, .* fork .*", second)

    def test_a_lock_that_a_thread_held_at_the_fork(self, command, kind):
        assert self.run(HELD, command, kind) == "True\n"


def test_a_program_without_standard_streams(command, tmp_path):
    code = """
        import pathlib, sys
        from lagent_llms import LMDeployServer
        llm = LMDeployServer("org/model", "m", "127.0.0.1", 0, command=sys.argv[1], api_key=None)
        answer = llm.chat([{"role": "user", "content": "hello"}])
        pathlib.Path(sys.argv[2]).write_text(str(answer == f"answered by {llm.pid}"))
        llm.close()
    """
    run_alone(code, command, tmp_path / "said", redirections="<&- >&- 2>&-")
    assert (tmp_path / "said").read_text() == "True"


# another process at the port


def run(cls, call, **arguments):
    """Return what `call` makes of a server, or the error that it or the start raises."""

    async def asynchronously():
        async with cls(**arguments) as llm:
            return await call(llm)

    try:
        if cls is AsyncLMDeployServer:
            return asyncio.run(asynchronously())
        with cls(**arguments) as llm:
            return call(llm)
    except ServerStartError as error:
        return error


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
@pytest.mark.parametrize(
    ("server_name", "where"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"),
     ("localhost", "127.0.0.1")],
)  # fmt: skip
def test_a_stranger_at_the_port_while_the_server_loads_gets_nothing(cls, server_name, where, command):
    port, strangers = check_port(server_name, 0), []

    def progress(text):
        if not strangers:
            strangers.append(Stranger(where, port))

    error = run(
        cls, lambda llm: llm.chat(HELLO), path="org/model", model_name="m", server_name=server_name,
        server_port=port, command=command, api_key=None, env={"LOAD_SECONDS": "60"}, progress=progress,
    )  # fmt: skip
    strangers[0].close()
    assert str(error).startswith(f"port {port} of "), error
    assert "another process listens there" in str(error)
    assert strangers[0].received == []


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_a_stranger_that_takes_the_port_over_does_not_get_the_repeated_request(cls, command):
    port, strangers = check_port("127.0.0.1", 0), []
    taker = threading.Thread(target=lambda: strangers.append(Stranger("127.0.0.1", port)))

    def call(llm):
        taker.start()  # waits until the server stops listening
        return llm.chat(VANISH)

    error = run(
        cls, call, path="org/model", model_name="m", server_name="127.0.0.1", server_port=port,
        command=command, api_key=None, stop_timeout=0.5,
    )  # fmt: skip
    taker.join(60)  # it listens, but may not have said so yet
    strangers[0].close()
    assert f"port {port} of 127.0.0.1: another process listens there" in str(error)
    assert strangers[0].received == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_a_stranger_that_takes_the_port_of_a_dead_server_gets_nothing(cls, restart, command):
    port, strangers = check_port("127.0.0.1", 0), []

    def call(llm):
        os.kill(llm.pid, signal.SIGKILL)
        assert wait_until(llm._child.ended)
        strangers.append(Stranger("127.0.0.1", port))
        return llm.chat(HELLO)

    error = run(
        cls, call, path="org/model", model_name="m", server_name="127.0.0.1", server_port=port,
        command=command, api_key=None, restart=restart,
    )  # fmt: skip
    strangers[0].close()
    expected = f"127.0.0.1:{port} cannot be listened on" if restart else "was killed by SIGKILL"
    assert expected in str(error)
    assert strangers[0].received == []
