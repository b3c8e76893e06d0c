"""Connections are not shared by mistake: unrequested responses, closing at the wrong moment, forks."""

import asyncio
import json
import os
import threading

import pytest
import requests

from lagent_llms import AsyncLMDeployClient, ConfigError, InvalidArgument, LMDeployClient, Timeout
from tests.scripted_server import ScriptedServer


def whole(text):
    choices = [{"index": 0, "text": text, "finish_reason": "stop"}]
    body = json.dumps({"choices": choices}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def test_an_unrequested_response_is_not_given_to_the_next_request(connect):
    def script(connection):
        connection.send(whole("requested")[:-5])
        connection.send(whole("requested")[-5:] + whole("unrequested"))

    client, server = connect(script)
    for _ in range(3):
        assert client.generate("x", stream=False) == "requested"
    assert server.connections == 3


async def test_closing_while_the_deadline_ends_the_call():
    silent = threading.Event()
    with ScriptedServer(lambda connection: silent.wait(30)) as server:
        llm = AsyncLMDeployClient(server.url, "m", max_retries=0, timeout=Timeout(first_token=0.2, idle=None))
        stream = llm.stream_generate("x", session_id=7, sequence_start=True, sequence_end=False)
        reader = asyncio.ensure_future(stream.__anext__())
        while stream._source is None or stream._source._timer is None or not stream._source._timer.expired:
            await asyncio.sleep(0)
        stream.close()
        silent.set()
        await asyncio.gather(reader, return_exceptions=True)
        await llm.aclose()
        assert not len(llm.sessions)
        turn = llm.sessions.begin(7, start=True, end=False)  # SessionBusy if the call had not ended
        turn.rollback()


def test_a_source_closed_after_its_answer_interrupts_no_other_call(monkeypatch):
    def script(connection):
        connection.answer("a")

    with ScriptedServer(script) as server, LMDeployClient(server.url, "m", max_retries=0) as llm:
        stream = llm.stream_generate("x")
        next(stream)
        source = stream._source
        release = source._channel.release

        def released_then_reused():
            release()
            source.close()  # by another thread, while the connection is in the pool

        monkeypatch.setattr(source._channel, "release", released_then_reused)
        assert [chunk.text for chunk in stream][-1] == "a"
        assert llm.generate("x") == "a"
        assert server.connections == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_that_closes_its_copy_of_a_stream_over_a_session():
    def script(connection):
        connection.head()
        connection.text("a")
        go_on.wait(30)
        connection.text("b", "stop")
        connection.event("[DONE]")
        connection.chunk()

    go_on = threading.Event()
    with ScriptedServer(script) as server, requests.Session() as session:
        llm = LMDeployClient(server.url, "m", max_retries=0, session=session)
        stream = llm.stream_generate("x")
        assert next(stream).text == "a"
        if not (child := os.fork()):
            stream.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        go_on.set()
        assert [chunk.text for chunk in stream][-1] == "ab"


@pytest.mark.parametrize(
    "proxy", ["http://u:secret@proxy:abc", "http://proxy:99999", "http://[::1", "http://:3128"]
)
def test_an_invalid_proxy_of_the_environment(connect, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client, _ = connect(None, url="http://model.test")
    with pytest.raises(ConfigError, match="proxy") as caught:
        client.generate("x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://user:secret@host:port", "http://exa mple", "http://a<b>", "http://u:secret@h?x=1"]
)
def test_an_invalid_url_shows_no_password(url):
    with pytest.raises(InvalidArgument, match="url=") as caught:
        LMDeployClient(url, "m")
    assert "secret" not in str(caught.value)
