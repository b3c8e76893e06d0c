"""Several servers at once: a list of URLs, and lmdeploy's own proxy."""

import asyncio
import json
import time
import urllib.request
from contextlib import ExitStack

import pytest

from lagent_llms import AsyncLMDeployClient, ConnectError, LMDeployClient, NotFound, ServerError
from tests import lmdeploy_peer as peers
from tests.waiting import wait_until

from .questions import COUNT, FRANCE, PARIS, user

GREEDY = {"temperature": 0, "max_new_tokens": 64, "meta_template": "internlm2-lagent"}


def requests_of(peer):
    """Return the number of completions in its log."""
    return peer.child.log_tail.count("POST /v1/completions")


# a list of urls


@pytest.mark.cpu_engine
def test_a_list_of_urls():
    with ExitStack() as stack:
        first, second = (stack.enter_context(peers.api_server(pytorch=False)) for _ in range(2))
        llm = stack.enter_context(LMDeployClient([first.url, second.url], peers.NAME, **GREEDY))
        # Requests go to the least busy server.
        streams = [llm.stream_chat(COUNT, ignore_eos=True, max_new_tokens=1500) for _ in range(4)]
        for stream in streams:
            next(stream)
        assert (first.running(), second.running()) == (2, 2)
        for stream in streams:
            stream.close()
        # A dead server is left out:
        second.child.stop()
        assert llm.chat([FRANCE] * 12) == [PARIS] * 12
        before = requests_of(first)
        # the other gets all requests, without a failed attempt each time.
        started = time.monotonic()
        for _ in range(4):
            assert llm.chat(FRANCE) == PARIS
        assert requests_of(first) == before + 4
        assert time.monotonic() - started < 30

        async def asynchronously():
            async with AsyncLMDeployClient([second.url, first.url], peers.NAME, **GREEDY) as async_llm:
                return await async_llm.chat([FRANCE] * 6)

        assert asyncio.run(asynchronously()) == [PARIS] * 6
        first.child.stop()
        with pytest.raises(ConnectError):
            llm.chat(FRANCE)


# lmdeploy serve proxy


@pytest.fixture(scope="module")
def proxied():
    """A proxy with one server behind it."""
    with peers.proxy() as proxy, peers.api_server("--proxy-url", proxy.url) as node:
        assert wait_until(lambda: peers.NAME in proxy.get("/v1/models"))
        yield proxy, node


@pytest.fixture
def llm(proxied):
    with LMDeployClient(proxied[0].url, peers.NAME, **GREEDY) as llm:
        yield llm


def test_through_the_proxy(llm, proxied, jax):
    assert llm.chat([FRANCE, COUNT, FRANCE]) == jax.chat([FRANCE, COUNT, FRANCE])
    assert peers.NAME in llm.models()
    with LMDeployClient(proxied[0].url, peers.NAME, temperature=0) as chat:
        assert chat.chat(FRANCE) == PARIS
        assert chat.chat(FRANCE, stream=False) == PARIS
        assert "".join(chat.stream_text(FRANCE)) == PARIS


def test_the_proxy_has_no_tokenizer(llm):
    with pytest.raises(NotFound) as caught:
        llm.tokenize("hi")
    assert caught.value.status_code == 404


def test_an_unknown_model_at_the_proxy(proxied):
    with LMDeployClient(proxied[0].url, "nothing") as llm, pytest.raises(NotFound) as caught:
        llm.generate("hi")
    assert caught.value.status_code == 404


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_of_the_server_behind_it_under_status_200(llm, stream):
    with pytest.raises(ServerError, match=r"must be in \[0, 2\]") as caught:
        llm.generate("hi", temperature=3.0, stream=stream)
    assert caught.value.status_code == 400


@pytest.mark.cpu_engine
def test_an_error_chunk_through_the_proxy(llm):
    with pytest.raises(ServerError, match="internal server error") as caught:
        llm.chat(user("[[error 4]] Count from 1 to 60."))
    assert caught.value.partial


@pytest.mark.parametrize("stream", [True, False])
def test_a_dead_server_behind_the_proxy(stream):
    with peers.proxy() as proxy:
        with peers.api_server("--proxy-url", proxy.url, pytorch=False) as node:
            assert wait_until(lambda: peers.NAME in proxy.get("/v1/models"))
        # The proxy may have dropped the node already: register it again.
        status = json.dumps({"url": node.url, "status": {"models": [peers.NAME]}}).encode()
        added = urllib.request.Request(proxy.url + "/nodes/add", status, {"Content-Type": "application/json"})
        with urllib.request.urlopen(added, timeout=30):
            pass
        with (
            LMDeployClient(proxy.url, peers.NAME, max_retries=0, **GREEDY) as llm,
            pytest.raises(ServerError) as caught,
        ):
            llm.generate("hi", stream=stream)
    assert caught.value.code == "10402"
    assert caught.value.status_code == 504
