"""`session=` of the synchronous backends: requests over the caller's `requests.Session`."""

import threading
import zlib

import pytest
import requests
import requests_mock
import responses
from requests.adapters import HTTPAdapter

from lagent_llms import (
    AsyncJAXClient,
    AsyncLMDeployClient,
    AsyncLMDeployServer,
    AsyncLoRAX,
    ConfigError,
    ConnectError,
    InvalidArgument,
    JAXClient,
    LMDeployClient,
    LMDeployServer,
    LoRAX,
    NotFound,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.http.endpoints import Endpoints
from lagent_llms.http.sync_client import HTTPTransport
from lagent_llms.lorax import AsyncClient, Client
from tests.scripted_server import ScriptedServer, free_port

URL = "http://model.test:8000"
STREAM = (
    b'data: {"choices": [{"text": "Hel"}]}\n\n'
    b'data: {"choices": [{"text": "lo", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
WHOLE = {"choices": [{"text": "Hello", "finish_reason": "stop"}]}


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def served(session):
    """Factory of a scripted server and a client that reaches it over `session`."""
    made = []

    def served(script, url="{}", **kwargs):
        server = ScriptedServer(script)
        url = url.format(server.url.removeprefix("http://"))
        client = LMDeployClient(url, "m", session=session, **{"max_retries": 0, **kwargs})
        made.extend((client, server))
        return client, server

    yield served
    for one in made:
        one.close()


# allowed types


@pytest.mark.parametrize("make", [LMDeployClient, JAXClient, LoRAX, Client])
def test_session_of_another_type_is_rejected(make):
    for wrong in (object(), requests, requests.Session):
        with pytest.raises(InvalidArgument, match=r"allowed is a requests\.Session") as caught:
            make(URL, session=wrong)
        assert caught.value.argument == "session"


def test_server_is_not_started_with_a_session_of_another_type():
    for make in (LMDeployServer, AsyncLMDeployServer):
        with pytest.raises(InvalidArgument, match="session=builtins.object"):
            make("some/model", server_port=0, session=object())


@pytest.mark.parametrize("make", [AsyncLMDeployClient, AsyncJAXClient, AsyncLoRAX, AsyncClient])
def test_requests_session_is_rejected_by_async_clients(make, session):
    with pytest.raises(InvalidArgument, match=r"requests.*Session: allowed is a aiohttp\.ClientSession"):
        make(URL, session=session)


# test doubles


def test_responses_answers_a_stream_and_a_call(session):
    with responses.RequestsMock() as double, LMDeployClient(URL, "m", session=session) as llm:
        double.post(f"{URL}/v1/completions", body=STREAM, content_type="text/event-stream")
        assert [chunk.text for chunk in llm.stream_generate("x")][-1] == "Hello"
        double.replace("POST", f"{URL}/v1/completions", json=WHOLE)
        assert llm.generate("x", stream=False) == "Hello"
        double.get(f"{URL}/v1/models", json={"data": [{"id": "m1"}]})
        assert llm.models() == ["m1"]


@pytest.mark.parametrize("status", [404, 307])
def test_responses_answers_an_error(session, status):
    with responses.RequestsMock() as double, LMDeployClient(URL, "m", session=session) as llm:
        double.post(
            f"{URL}/v1/completions",
            json={"message": "because"},
            status=status,
            headers={"Location": "http://elsewhere.test"},
        )
        with pytest.raises(NotFound if status == 404 else ServerError, match="because") as caught:
            llm.generate("x")
        assert caught.value.status_code == status


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ConnectionError("refused"), ConnectError),
        (requests.ConnectTimeout(), TimeoutExceeded),
        (requests.ReadTimeout(), TimeoutExceeded),
        (requests.exceptions.SSLError("no certificate"), ConnectError),
        (requests.exceptions.InvalidProxyURL("no proxy"), ConfigError),
        (KeyError("the caller's own"), KeyError),
    ],
)
def test_responses_raises_an_error(session, error, kind):
    with (
        responses.RequestsMock() as double,
        LMDeployClient(URL, "m", session=session, max_retries=0) as llm,
    ):
        double.post(f"{URL}/v1/completions", body=error)
        with pytest.raises(kind):
            llm.generate("x")


@pytest.mark.parametrize("make", [LMDeployClient, JAXClient])
def test_requests_mock_answers_a_stream_and_a_call(session, make):
    with requests_mock.Mocker(session=session) as double, make(URL, "m", session=session) as llm:
        double.post(f"{URL}/v1/completions", content=STREAM, headers={"Content-Type": "text/event-stream"})
        assert llm.generate("x") == "Hello"
        double.post(f"{URL}/v1/completions", json=WHOLE)
        assert llm.generate("x", stream=False) == "Hello"
        double.post(f"{URL}/v1/completions", exc=requests.exceptions.ConnectTimeout)
        with pytest.raises(TimeoutExceeded) as caught:
            llm.generate("x")
        assert caught.value.phase == "connect"


def test_lorax_over_a_session(session):
    info = {"model_id": "m", "max_stop_sequences": 4}
    answer = {"generated_text": "Hello", "details": {"finish_reason": "stop", "generated_tokens": 1}}
    with requests_mock.Mocker(session=session) as double, Client(URL, session=session) as client:
        double.get(f"{URL}/health", json=info)
        assert client.health() is True
        double.post(f"{URL}/generate", json=[answer])
        double.post(f"{URL}/", json=[answer])
        session.cookies.set("a", "1")
        with Client(URL, session=session, cookies={"b": "2"}, headers={"X-Team": "blue"}) as other:
            assert other.health() is True
        sent = double.last_request.headers
        assert sorted(sent["Cookie"].split("; ")) == ["a=1", "b=2"]
        assert sent["X-Team"] == "blue"


# settings of the session


def test_headers_cookies_and_credentials_of_the_session(session, served):
    session.headers.update({"X-Team": "blue", "User-Agent": "mine"})
    session.cookies.set("a", "1")
    session.auth = ("me", "p@ss")
    client, server = served(lambda c: c.answer("a"))
    assert client.generate("x", request_id="r1") == "a"
    headers = server.requests[0].headers
    assert (headers["x-team"], headers["user-agent"], headers["x-request-id"]) == ("blue", "mine", "r1")
    assert (headers["cookie"], headers["authorization"]) == ("a=1", "Basic bWU6cEBzcw==")
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("url", "key", "expected"),
    [
        ("http://{}", None, "Basic c2Vzc2lvbjp4"),
        ("http://{}", "key", "Bearer key"),
        ("http://me:p%40ss@{}", "key", "Basic bWU6cEBzcw=="),
    ],
)
def test_backend_credentials_precede_those_of_the_session(session, served, url, key, expected):
    session.auth = ("session", "x")
    client, server = served(lambda c: c.answer("a"), url=url, api_key=key)
    client.generate("x")
    assert server.requests[0].headers["authorization"] == expected


def test_mounted_adapter_is_used(session, served):
    class Signing(HTTPAdapter):
        def send(self, request, *args, **kwargs):
            request.headers["X-Signature"] = str(len(request.body))
            return super().send(request, *args, **kwargs)

    session.mount("http://", Signing())
    client, server = served(lambda c: c.answer("a"))
    assert client.generate("x") == "a"
    assert int(server.requests[0].headers["x-signature"]) > 10


@pytest.mark.parametrize(
    "hook", [lambda r, **_: r.raise_for_status(), lambda r, **_: r.content and None], ids=["raise", "read"]
)
def test_session_hooks_are_called(session, served, hook):
    called = []
    session.hooks["response"] = [lambda r, **_: called.append(r.status_code), hook]
    client, _ = served(lambda c: c.answer("a") if c.body["prompt"] == "x" else c.json({"message": "no"}, 404))
    assert client.generate("x") == "a"
    with pytest.raises(NotFound, match="no"):
        client.generate("y")
    assert called == [200, 404]


def test_exception_in_a_session_hook(session, served):
    def hook(response, **_):
        raise LookupError("the caller's own")

    session.hooks["response"] = hook
    client, _ = served(lambda c: c.answer("a"))
    with pytest.raises(LookupError):
        client.generate("x")


def test_session_proxy_is_used(session):
    with ScriptedServer(lambda c: c.answer("by proxy")) as proxy:
        session.proxies["http"] = proxy.url.replace("http://", "http://me:p%40ss@")
        with LMDeployClient("http://model.test", "m", session=session) as llm:
            assert llm.generate("x") == "by proxy"
        assert proxy.requests[0].path == "http://model.test/v1/completions"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize(("key", "expected"), [(None, "Basic bmV0OnJj"), ("key", "Bearer key")])
def test_trust_env_controls_netrc(session, served, monkeypatch, tmp_path, key, expected):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login net password rc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    session.trust_env = True
    client, server = served(lambda c: c.answer("a"), api_key=key)
    assert client.generate("x") == "a"
    assert server.requests[0].headers["authorization"] == expected


def test_local_server_ignores_the_environment_proxy(session, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    session.trust_env = True
    with ScriptedServer(lambda c: c.json({"data": [{"id": "m"}]})) as server:
        call = LMDeployClient(server.url).models_call()
        transport = HTTPTransport(Endpoints([server.url]), session=session, environment_proxy=False)
        assert transport.fetch(call, Timeout()) == ["m"]


def test_session_verify_is_used(session, certificate):
    with ScriptedServer(lambda c: c.answer("safe"), tls=certificate[1]) as server:
        with (
            LMDeployClient(server.url, "m", session=session, max_retries=0) as llm,
            pytest.raises(ConnectError, match="(?i)certificate"),
        ):
            llm.generate("x")
        with LMDeployClient(server.url, "m", session=session, verify=certificate[0]) as llm:
            assert llm.generate("x") == "safe"
        session.verify = str(certificate[0])
        with LMDeployClient(server.url, "m", session=session) as llm:
            assert llm.generate("x") == "safe"


def test_connections_are_reused_and_the_session_stays_open(session, served):
    client, server = served(lambda c: c.answer("a"))
    for _ in range(3):
        assert client.generate("x") == "a"
    client.close()
    assert server.connections == 1
    assert session.post(f"{server.url}/x", json={}).status_code == 200
    assert server.connections == 1


def test_chunks_arrive_as_they_are_sent(session, served):
    go_on = threading.Event()

    def script(connection):
        connection.head(Transfer_Encoding=None, Connection="close")
        connection.send(STREAM[:38])
        go_on.wait(10)
        connection.send(STREAM[38:])
        connection.sock.close()

    client, _ = served(script)
    with client.stream_generate("x") as stream:
        assert next(stream).text == "Hel"
        go_on.set()
        *_, last = stream
    assert last.text == "Hello"


def test_a_compressed_stream_is_decoded(session, served):
    def script(connection):
        connection.head(Content_Encoding="gzip")
        packer = zlib.compressobj(wbits=31)
        for start in range(0, len(STREAM), 20):
            connection.chunk(packer.compress(STREAM[start : start + 20]) + packer.flush(zlib.Z_SYNC_FLUSH))
        connection.chunk(packer.flush())
        connection.chunk()

    client, _ = served(script)
    assert client.generate("x") == "Hello"


def test_an_unknown_encoding_is_an_error(session, served):
    client, _ = served(lambda c: c.json(WHOLE, Content_Encoding="zip"))
    with pytest.raises(ServerError, match="zip"):
        client.generate("x", stream=False)


# faults and timeouts


def begun(connection):
    connection.head()
    connection.text("Hel")


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:{}", "(?i)refused"), ("http://no-such-host.invalid:{}", r"no-such-host\.invalid")],
)
def test_unreachable_server(session, url, reason):
    llm = LMDeployClient(url.format(free_port()), "m", session=session, max_retries=0)
    with llm, pytest.raises(ConnectError, match=reason):
        llm.generate("x")


def reset_mid_stream(connection):
    begun(connection)
    connection.reset()


def closed(connection):
    begun(connection)
    connection.sock.close()


def too_short(connection):
    connection.head(Transfer_Encoding=None, Content_Length="1000")
    connection.send(STREAM[:38])
    connection.sock.close()


@pytest.mark.parametrize("script", [reset_mid_stream, closed, too_short])
def test_broken_stream_error_has_the_partial_text(served, script):
    client, _ = served(script)
    with pytest.raises(StreamInterrupted) as caught:
        client.generate("x")
    assert caught.value.partial == "Hel"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"])
def test_invalid_or_missing_response(served, answer):
    def script(connection):
        connection.send(answer)
        connection.sock.close()

    client, _ = served(script)
    with pytest.raises((StreamInterrupted, ServerError)):  # http.client ends the head at an invalid header
        client.generate("x")


def test_busy_server_is_retried(served):
    count = iter(range(9))

    def script(connection):
        if next(count) < 2:
            connection.json({"message": "busy"}, 429, Retry_After="0.01")
        else:
            connection.answer("at last")

    client, server = served(script, max_retries=2)
    assert client.generate("x") == "at last"
    assert len(server.requests) == 3


def comments(connection):
    connection.head()
    done = threading.Event()
    try:
        while not done.wait(0.02):
            connection.chunk(": keep-alive\n\n")
    except OSError:
        pass


@pytest.mark.parametrize("script", [lambda c: None, lambda c: c.head(), comments])
def test_first_token_timeout(served, script):
    client, server = served(script)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(first_token=0.4, idle=1))
    assert caught.value.phase == "first_token"
    assert server.requests[0].wait_gone()


@pytest.mark.parametrize(
    ("limits", "phase"), [(Timeout(idle=0.2), "idle"), (Timeout(idle=60, total=0.5), "total")]
)
def test_idle_and_total_timeouts(served, limits, phase):
    client, server = served(begun)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=limits)
    assert (caught.value.phase, caught.value.partial) == (phase, "Hel")
    assert server.requests[0].wait_gone()


def test_leaving_a_stream_closes_its_connection(served):
    client, server = served(begun)
    with client.stream_generate("x") as stream:
        assert next(stream).text == "Hel"
    assert server.requests[0].wait_gone()


def test_closing_from_another_thread_ends_a_read(served):
    client, server = served(begun)
    stream = client.stream_generate("x")
    assert next(stream).text == "Hel"
    found = []
    thread = threading.Thread(target=lambda: found.extend(stream))
    thread.start()
    stream.close()
    thread.join(5)
    assert not thread.is_alive()
    assert found == []
    assert server.requests[0].wait_gone()


def test_closing_from_another_thread_ends_the_wait_for_the_head(served):
    received = threading.Event()
    client, server = served(lambda c: received.set())
    stream = client.stream_generate("x", timeout=Timeout(first_token=1, idle=1))
    found = []
    thread = threading.Thread(target=lambda: found.extend(stream))
    thread.start()
    assert received.wait(5)
    stream.close()
    thread.join(0.9)
    assert not thread.is_alive()
    assert found == []
    assert server.requests[0].wait_gone()


def test_slow_reader_does_not_expire_the_idle_timeout(served):
    go_on = threading.Event()

    def script(connection):
        begun(connection)
        go_on.wait(10)
        connection.text("lo", "stop")
        connection.event("[DONE]")
        connection.chunk()

    client, _ = served(script)
    limit = 0.3
    with client.stream_generate("x", timeout=Timeout(first_token=limit, idle=limit)) as stream:
        assert next(stream).text == "Hel"
        threading.Event().wait(2 * limit)
        go_on.set()
        *_, last = stream
    assert last.text == "Hello"
