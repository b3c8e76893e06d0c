"""Retries over real sockets: what is sent again, and a batch at a server with one place."""

import asyncio
import threading
import time
from collections import deque
from email.utils import formatdate

import aiohttp
import pytest
import requests
from requests.adapters import HTTPAdapter

from lagent_llms import AsyncLMDeployClient, LMDeployClient, RateLimited, Timeout, TimeoutExceeded
from tests.scripted_server import ScriptedServer, free_port

QUICK = {"max_retries": 2, "base": 0.001}


def scripts(*steps):
    """A script that answers each request with the next step."""
    rest = iter(steps)
    return lambda connection: next(rest)(connection)


def answer(connection):
    connection.answer("at last")


def refuse(status, **headers):
    return lambda connection: connection.json({"message": "busy"}, status, **headers)


def cut(connection):
    connection.sock.close()


def silent(connection):
    connection.wait_gone(60)


FAILURES = {
    **{str(status): refuse(status) for status in (408, 409, 425, 429, 500, 502, 503, 504)},
    "a broken connection": cut,
    "a break after the head": lambda connection: (connection.head(), connection.sock.close()),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_what_is_retried(connect, failure):
    client, server = connect(scripts(failure, failure, answer), max_retries=None, retry=QUICK)
    assert client.generate("x") == "at last"
    assert len(server.requests) == 3


def test_a_timeout_is_retried(connect):
    client, server = connect(scripts(silent, answer), max_retries=None, retry=QUICK)
    assert client.generate("x", timeout=Timeout(first_token=1)) == "at last"
    assert len(server.requests) == 2


def test_a_date_in_retry_after_is_honoured(connect):
    past = formatdate(time.time() - 60, usegmt=True)
    client, _ = connect(scripts(refuse(429, Retry_After=past), answer), max_retries=None, retry=QUICK)
    assert client.generate("x") == "at last"
    future = formatdate(time.time() + 3600, usegmt=True)
    client, server = connect(refuse(429, Retry_After=future))
    with pytest.raises(RateLimited, match=r"not retried: the server asks to wait .*max_wait=60"):
        client.generate("x", retry=QUICK)
    assert len(server.requests) == 1


def test_lookups_are_retried(connect):
    models = {"object": "list", "data": [{"id": "m"}]}
    busy = refuse(503)
    client, _ = connect(scripts(busy, lambda c: c.json(models)), max_retries=None, retry=QUICK)
    assert client.models() == ["m"]
    client, _ = connect(
        scripts(busy, lambda c: c.json({"input_ids": [1, 2], "length": 2})), retry=QUICK, max_retries=None
    )
    assert client.tokenize("x") == [1, 2]


def test_the_message_of_each_timeout(connect):
    client, server = connect(silent)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(first_token=0.1))
    assert str(caught.value) == (
        f"{server.url}: no piece of the answer came within 0.1 s, the limit for the first token; "
        "timeout=Timeout(first_token=…) changes it"
    )
    with pytest.raises(TimeoutExceeded, match=r"took longer than 0.1 s.*timeout=Timeout\(total=…\)"):
        client.generate("x", timeout=Timeout(total=0.1))

    def begin(connection):
        connection.head()
        connection.text("a")
        connection.wait_gone(60)

    client, server = connect(begin)
    with pytest.raises(TimeoutExceeded, match=r"http.*: no further piece .* 0.1 s.*Timeout\(idle=…\)"):
        client.generate("x", timeout=Timeout(idle=0.1))


# connections that were kept


def closing_after_answers(release):
    """A script that keeps the connection open, and closes it when the next request arrives on it."""
    seen = set()

    def script(connection):
        if connection.sock in seen:
            release.set()
            connection.sock.close()
        else:
            seen.add(connection.sock)
            connection.answer("fresh")

    return script


def test_a_kept_connection_that_breaks_is_replaced_at_once_and_uncounted(connect):
    broken = threading.Event()
    client, server = connect(closing_after_answers(broken))  # max_retries=0
    assert client.generate("x") == "fresh"
    assert client.generate("y") == "fresh"
    assert broken.is_set()
    assert [item.body["prompt"] for item in server.requests] == ["x", "y", "y"]


def test_a_new_connection_that_breaks_is_a_failure(connect):
    client, server = connect(cut)
    with pytest.raises(Exception, match="broke before the answer"):
        client.generate("x")
    assert len(server.requests) == 1


# servers with fewer places than prompts


class OnePlace:
    """A script of a server that answers one prompt after the other, and forgets those whose client is gone.

    Args:
        seconds: How long an answer takes.
    """

    def __init__(self, seconds):
        self.seconds = seconds
        self._changed, self._queue = threading.Condition(), deque()

    def __call__(self, connection):
        with self._changed:
            self._queue.append(connection)
            while self._queue[0] is not connection:
                self._changed.wait()
        try:
            if not connection.wait_gone(self.seconds):
                connection.sock.settimeout(None)
                connection.answer(connection.body["prompt"])
        finally:
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()


def test_a_batch_at_a_server_with_one_place_loses_nothing(connect):
    """64 prompts in flight would wait for 64 answers; the limit is that of about 10."""
    client, server = connect(
        OnePlace(0.05), max_retries=None, max_concurrency=64, timeout=Timeout(first_token=0.5, idle=60)
    )
    prompts = [str(number) for number in range(100)]
    assert client.generate(prompts) == prompts
    assert len(server.requests) > 100


def test_a_rate_limited_batch_loses_nothing(connect):
    lock, accepted = threading.Lock(), [float("-inf")]

    def script(connection):
        with lock:
            now = time.monotonic()
            refused = now - accepted[0] < 0.1
            if not refused:
                accepted[0] = now
        if refused:
            connection.json({"message": "slow down"}, 429, Retry_After="0.1")
        else:
            connection.answer(connection.body["prompt"])

    client, server = connect(script, max_retries=None)
    prompts = [str(number) for number in range(20)]
    assert client.generate(prompts, retry={"base": 0.01}) == prompts
    assert len(server.requests) > 20


# waiting for a connection of the caller's session


def slow_answer(connection):
    connection.wait_gone(0.3)
    connection.sock.settimeout(None)
    connection.answer("a")


def test_the_limit_does_not_run_while_a_session_of_requests_has_no_free_connection():
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
    limits = Timeout(connect=2, first_token=2, idle=2)
    with ScriptedServer(slow_answer) as server:
        llm = LMDeployClient(server.url, "m", session=session, max_retries=0, timeout=limits)
        assert llm.generate(["x"] * 9) == ["a"] * 9  # the last waits for longer than the limit
        assert server.connections == 1


async def test_the_limit_does_not_run_while_a_session_of_aiohttp_has_no_free_connection():
    limits = Timeout(connect=2, first_token=2, idle=2)
    with ScriptedServer(slow_answer) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            llm = AsyncLMDeployClient(server.url, "m", session=session, max_retries=0, timeout=limits)
            assert await llm.generate(["x"] * 9) == ["a"] * 9
    assert server.connections == 1


@pytest.mark.parametrize("own", [True, False])
async def test_the_limit_runs_once_a_request_of_a_session_is_written(own):
    with ScriptedServer(silent) as server:
        async with aiohttp.ClientSession() as session:
            llm = AsyncLMDeployClient(server.url, "m", session=session if own else None, max_retries=0)
            with pytest.raises(TimeoutExceeded, match="the limit for the first token"):
                await llm.generate("x", timeout=Timeout(first_token=0.2, idle=60))
        sync = LMDeployClient(server.url, "m", session=requests.Session() if own else None, max_retries=0)
        with pytest.raises(TimeoutExceeded, match="the limit for the first token"):
            await asyncio.to_thread(sync.generate, "x", timeout=Timeout(first_token=0.2, idle=60))


def test_a_dead_server_is_given_up_with_the_number_of_attempts(connect):
    client, _ = connect(answer, url=f"http://127.0.0.1:{free_port()}", max_retries=None, retry=QUICK)
    with pytest.raises(Exception, match=r"cannot connect .*after 3 attempts in .*max_retries=2\) allows"):
        client.generate("x")
