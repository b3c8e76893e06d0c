"""Faults between LMDeployClient and lmdeploy's servers; each raises a typed error."""

import asyncio
import os
import pickle
import signal
import time

import pytest

from lagent_llms import (
    AsyncLMDeployClient,
    AuthenticationError,
    BatchError,
    ConnectError,
    LLMError,
    LMDeployClient,
    ModelStatusCode,
    NotFound,
    ServerError,
    SessionOutOfLimit,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.child.ports import check_port
from tests import lmdeploy_peer as peers
from tests.waiting import wait_until

from .questions import COUNT, FRANCE, PARIS, user


@pytest.fixture(params=["sync", "async"])
def call(request):
    """A function that calls a method of a new client, synchronous or asynchronous, and closes the client."""

    def call(method, *args, url, **kwargs):
        given = {
            name: kwargs.pop(name) for name in ("model_name", "api_key", "max_retries") if name in kwargs
        }
        given = {"model_name": peers.NAME, "temperature": 0, **given}
        if request.param == "sync":
            with LMDeployClient(url, **given) as llm:
                return getattr(llm, method)(*args, **kwargs)

        async def run():
            async with AsyncLMDeployClient(url, **given) as llm:
                return await getattr(llm, method)(*args, **kwargs)

        return asyncio.run(run())

    return call


def test_a_wrong_url(call):
    url = f"http://127.0.0.1:{check_port('127.0.0.1', 0)}"
    with pytest.raises(ConnectError, match=f"cannot connect to {url}: Connection refused"):
        call("generate", "hi", url=url, max_retries=0)
    with pytest.raises(ConnectError, match="no-such-host"):
        call("generate", "hi", url="http://no-such-host.invalid", max_retries=0)


def test_a_wrong_route(call, peer):
    with pytest.raises(NotFound) as caught:
        call("generate", "hi", url=peer.url + "/elsewhere")
    assert caught.value.status_code == 404


def test_a_wrong_key(call, other_peer):
    for key in (None, "sk-wrong"):
        with pytest.raises(AuthenticationError) as caught:
            call("chat", FRANCE, url=other_peer.url, api_key=key)
        assert caught.value.status_code == 401
        assert "sk-wrong" not in str(caught.value)
    assert call("chat", FRANCE, url=other_peer.url, api_key="sk-right") == PARIS


def test_an_unknown_model(call, peer):
    with pytest.raises(NotFound, match="'nothing' does not exist") as caught:
        call("generate", "hi", url=peer.url, model_name="nothing")
    assert caught.value.status_code == 404
    with pytest.raises(NotFound, match="'whisper'"):
        call("chat", FRANCE, url=peer.url, adapter_name="whisper")


def test_a_prompt_that_is_too_long(call, peer):
    """The server has no error code for this; with `session_len` the client raises SessionOutOfLimit."""
    with pytest.raises(
        ServerError, match=r"must be smaller than the model context length \(2048\)"
    ) as caught:
        call("generate", "x " * 3000, url=peer.url)
    assert caught.value.status_code == 400
    with LMDeployClient(peer.url, peers.NAME, session_len=2048) as llm, pytest.raises(SessionOutOfLimit):
        llm.generate("x " * 3000)


def test_an_invalid_parameter_has_the_message_of_the_server(call, peer):
    with pytest.raises(ServerError, match=r"The temperature 3.0 must be in \[0, 2\]") as caught:
        call("generate", "hi", url=peer.url, temperature=3.0)
    assert (caught.value.status_code, caught.value.code) == (400, "400")


def test_one_failure_in_a_batch(call, peer):
    with pytest.raises(BatchError) as caught:
        call("generate", ["hi", "x " * 3000, "hi"], url=peer.url, max_new_tokens=4)
    assert caught.value.index == 1
    assert isinstance(caught.value.results[1], ServerError)
    assert caught.value.results[0] == caught.value.results[2] != ""


@pytest.mark.cpu_engine
def test_an_error_during_a_stream(call, peer):
    with pytest.raises(ServerError, match="An internal server error occurred") as caught:
        call("chat", user("[[error 5]] Count from 1 to 60."), url=peer.url)
    error = caught.value
    assert (error.status_code, bool(error.partial)) == (500, True)
    again = pickle.loads(pickle.dumps(error))
    assert (again.partial, again.status_code) == (error.partial, 500)


@pytest.mark.cpu_engine
def test_a_cut_connection(call, peer):
    with pytest.raises(StreamInterrupted) as caught:
        call("chat", user("[[cut 5]] Count from 1 to 60."), url=peer.url)
    assert caught.value.partial


@pytest.mark.cpu_engine
def test_a_stream_that_ends_without_a_finish_reason_is_an_error(call, peer):
    with pytest.raises(StreamInterrupted, match="without its final marker") as caught:
        call("chat", user("[[end 5]] Count from 1 to 60."), url=peer.url)
    assert caught.value.partial


@pytest.mark.cpu_engine
def test_an_error_that_is_plain_text(call, peer):
    with pytest.raises(ServerError, match="Internal Server Error") as caught:
        call("generate", "[[cut 0]]", url=peer.url, stream=False)
    assert caught.value.status_code == 500


@pytest.mark.cpu_engine
def test_an_engine_that_stopped(call, peer):
    for stream in (True, False):
        with pytest.raises(ServerError, match="engine is unavailable") as caught:
            call("generate", "[[stop 0]]", url=peer.url, stream=stream, max_retries=0)
        assert caught.value.status_code == 503


@pytest.mark.cpu_engine
@pytest.mark.parametrize(
    ("mark", "timeout", "phase"),
    [
        ("[[first 60]]", 0.5, "first_token"),
        ("[[hang 3]]", 1.5, "idle"),
        ("[[hang 3]]", Timeout(idle=1.5), "idle"),
        ("[[slow 0.1]]", Timeout(total=1), "total"),
    ],
)
def test_timeouts(call, peer, mark, timeout, phase):
    with pytest.raises(TimeoutExceeded) as caught:
        call("chat", user(f"{mark} Count from 1 to 60."), url=peer.url, timeout=timeout)
    assert caught.value.phase == phase
    assert bool(caught.value.partial) == (phase != "first_token")
    assert wait_until(lambda: peer.running() == 0)


@pytest.mark.cpu_engine
def test_a_slow_answer_is_no_timeout(call, peer):
    answer = call("chat", user("[[first 1.2]] [[slow 0.1]] Hi."), url=peer.url, timeout=10, max_new_tokens=8)
    assert answer


@pytest.mark.cpu_engine
def test_status_in_place_of_errors(peer):
    with LMDeployClient(peer.url, peers.NAME, temperature=0, on_error="status") as llm:
        *_, last = llm.stream_chat(user("[[error 5]] Count from 1 to 60."))
        status, text, _ = last
        assert status == ModelStatusCode.SERVER_ERR
        assert text


@pytest.mark.cpu_engine
def test_a_server_that_is_killed_during_a_stream():
    """After kill -9 the caller gets an error within seconds, with the text so far."""
    for asynchronous in (False, True):
        with peers.api_server() as peer:
            result = _killed_async(peer) if asynchronous else _killed(peer)
        error, seconds = result
        assert error.partial.startswith("1, 2")
        assert seconds < 5  # one second is required; the machine may be busy
        with pytest.raises(LLMError):
            LMDeployClient(peer.url, peers.NAME, max_retries=0).chat(FRANCE)


SLOWLY = {"temperature": 0, "ignore_eos": True, "max_new_tokens": 1000}


def _killed(peer):
    with LMDeployClient(peer.url, peers.NAME, **SLOWLY) as llm:
        with pytest.raises(StreamInterrupted) as caught:
            for number, _ in enumerate(llm.stream_chat(COUNT)):
                if number == 8:
                    os.kill(peer.child.pid, signal.SIGKILL)
                    killed = time.monotonic()
        return caught.value, time.monotonic() - killed


def _killed_async(peer):
    async def run():
        async with AsyncLMDeployClient(peer.url, peers.NAME, **SLOWLY) as llm:
            number = 0
            try:
                async for _ in llm.stream_chat(COUNT):
                    number += 1
                    if number == 8:
                        os.kill(peer.child.pid, signal.SIGKILL)
                        killed = time.monotonic()
            except StreamInterrupted as error:
                return error, time.monotonic() - killed
            raise AssertionError("the stream went on")

    return asyncio.run(run())
