"""What errors say about pages, redirects, compressed bodies and wrong base URLs, by both clients."""

import gzip
import time

import pytest

from lagent_llms import (
    AsyncLoRAX,
    AuthenticationError,
    ConnectError,
    LoRAX,
    NotFound,
    ServerError,
    StreamInterrupted,
    Timeout,
)
from lagent_llms.testing.conformance import Caller
from tests.scripted_server import ScriptedServer

NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def responds(status, body, content_type="text/html", **headers):
    """Make a script that sends one response."""
    data = body if isinstance(body, bytes) else body.encode()

    def script(connection):
        fields = {"Transfer_Encoding": None, "Content_Length": len(data), **headers}
        connection.head(status, content_type, **fields)
        connection.send(data)

    return script


def error_of(connect, script, kind=ServerError, **given):
    _, server = connect(script)
    client, _ = connect(None, url=server.url)
    with pytest.raises(kind) as caught:
        client.generate("x", **given)
    message = str(caught.value)
    assert f"{server.url}/v1/completions" in message
    return caught.value, message


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "page", "headers", "words"),
    [
        (502, NGINX.format("502 Bad Gateway"), {"Server": "nginx/1.25"},
         ["a page", "'502 Bad Gateway'", "sent by nginx/1.25", "proxy in between does not reach the server"]),
        (404, NGINX.format("404 Not Found"), {"Server": "nginx"}, ["sent by nginx", "no such route"]),
        (403, "<!DOCTYPE html><title>Just a moment...</title>", {"Server": "cloudflare", "CF_Ray": "1"},
         ["Just a moment", "sent by cloudflare", "refuses"]),
        (413, NGINX.format("413 Request Entity Too Large"), {}, ["limits the size of requests"]),
        (503, "<html><h1>Squid says no</h1>", {"X_Squid_Error": "ERR 0", "Via": "1.1 cache"},
         ["Squid says no", "sent by Squid (via 1.1 cache)"]),
        (400, NGINX.format("The plain HTTP request was sent to HTTPS port"), {}, ["use https in its URL"]),
        (200, "<!doctype html><title>Sign in</title>", {}, ["a page", "'Sign in'", "login page"]),
        (502, "Bad Gateway", {"Server": "envoy"}, ["Bad Gateway, sent by envoy", "proxy in between"]),
        (504, "", {"Server": "awselb/2.0"}, ["no reason given by awselb/2.0"]),
    ],
)  # fmt: skip
def test_pages_of_proxies(connect, status, page, headers, words, stream):
    error, message = error_of(connect, responds(status, page, **headers), stream=stream)
    assert error.status_code == status
    for word in words:
        assert word in message
    assert "<" not in message


def test_classes_do_not_depend_on_pages(connect):
    error_of(connect, responds(404, NGINX.format("404 Not Found")), NotFound)
    error_of(connect, responds(401, NGINX.format("401")), AuthenticationError)


def test_a_wrong_path_of_the_base_url(connect):
    script = responds(404, b'{"detail": "Not Found"}', "application/json")
    _, message = error_of(connect, script, NotFound)
    assert "no such route: is the path of the base URL" in message
    _, message = error_of(
        connect, responds(404, b'{"error": {"message": "no model m"}}', "text/json"), NotFound
    )
    assert "base URL" not in message


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://{host}/v1/completions", "https instead of http: the base URL should be https://{host}"),
        ("http://u:pw@h/api/v1/completions?key=secret", "the base URL should be http://***@h/api"),
        ("/api/v1/completions", "the base URL should be http://{host}/api"),
        ("http://sso.test/login?back=x", "redirects to http://sso.test/login, and"),
        ("/login", "a login page in between, or the path of the base URL is wrong"),
    ],
)
def test_redirects(connect, location, words):
    _, server = connect(None)
    host = server.url.removeprefix("http://")
    server.script = responds(308, "", Location=location.format(host=host))
    client, _ = connect(None, url=server.url)
    with pytest.raises(ServerError) as caught:
        client.generate("x")
    assert words.format(host=host) in str(caught.value)
    assert f"{server.url}/v1/completions: the server redirects" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "pw@" not in str(caught.value)
    assert caught.value.status_code == 308


def test_a_compressed_body_without_a_label_is_named(connect):
    for stream in (True, False):
        _, message = error_of(connect, responds(200, gzip.compress(b"{}"), "application/json"), stream=stream)
        assert "compressed (gzip), but its Content-Encoding does not say so" in message


def test_a_compressed_error_is_decoded(connect):
    body = gzip.compress(b'{"error": {"message": "because"}}')
    _, message = error_of(connect, responds(400, body, Content_Encoding="gzip"))
    assert "because" in message


def test_a_page_in_the_middle_of_a_stream(connect):
    def script(connection):
        connection.head(Server="nginx")
        connection.text("Hel")
        connection.chunk(NGINX.format("504 Gateway Time-out"))
        connection.chunk()

    error, message = error_of(connect, script)
    assert "504 Gateway Time-out" in message
    assert error.partial == "Hel"


def test_the_partial_text_holds_the_beginning_of_a_stop_word(connect):
    def broken(connection):
        connection.head()
        connection.text("Hello <|im")
        connection.event({"error": {"message": "CUDA OOM"}})
        connection.chunk()

    def cut(connection):
        connection.head()
        connection.text("Hello <|im")
        connection.chunk()

    for script, kind in (broken, ServerError), (cut, StreamInterrupted):
        client, _ = connect(script)
        with pytest.raises(kind) as caught:
            client.generate("x", stop_words=["<|im_end|>"])
        assert caught.value.partial == "Hello <|im"
        with client.stream("stream_generate", "x", stop_words=["<|im_end|>"], on_error="status") as stream:
            *_, last = stream
        assert (last.text, last.delta, last.error.partial) == ("Hello <|im", "<|im", "Hello <|im")


def test_a_wrong_list_of_models_is_named(connect):
    client, server = connect(responds(200, b'{"data": [{"id": 5}]}', "application/json"))
    with pytest.raises(ServerError, match=r"answer is wrong, not the request: .*\$\.data\[0\]\.id") as caught:
        client.models()
    assert f"{server.url}/v1/models: " in str(caught.value)


def test_a_tls_port_that_is_asked_in_the_clear(connect, certificate):
    with ScriptedServer(lambda c: c.answer("a"), tls=certificate[1]) as server:
        client, _ = connect(None, url=server.url.replace("https:", "http:"))
        with pytest.raises(StreamInterrupted, match="if it expects TLS, use https in its URL"):
            client.generate("x")


def test_an_alert_of_tls_is_named(connect):
    def script(connection):
        connection.send(b"\x15\x03\x01\0\2\2\x46")
        connection.sock.close()

    client, _ = connect(script)
    with pytest.raises(StreamInterrupted, match="the port speaks TLS: use https in its URL"):
        client.generate("x")


def test_a_port_without_tls_that_is_asked_for_it(connect):
    with ScriptedServer(lambda c: c.answer("a")) as server:
        server._answer = lambda sock: sock.recv(1000) and sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client, _ = connect(None, url=server.url.replace("http:", "https:"))
        with pytest.raises(ConnectError, match="does not speak TLS: use http in its URL"):
            client.generate("x")


@pytest.mark.parametrize(
    "fields",
    [{"role": "assistant"}, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": " "}}]}],
    ids=["role", "tool call"],
)
def test_deltas_without_text_renew_the_wait(connect, fields):
    def script(connection):
        connection.head()
        for _ in range(9):
            connection.event({"choices": [{"index": 0, "delta": fields}]})
            time.sleep(0.25)
        connection.text("a", "stop")
        connection.chunk()

    client, _ = connect(script)
    assert client.generate("x", timeout=Timeout(first_token=1.5, idle=1.5)) == "a"


def test_a_role_is_not_the_first_token(connect):
    """Some servers send it before they begin with the prompt."""

    def script(connection):
        connection.head()
        connection.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        time.sleep(0.5)
        connection.text("a", "stop")
        connection.chunk()

    client, _ = connect(script)
    assert client.generate("x", timeout=Timeout(first_token=60, idle=0.1)) == "a"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://sso.test/login", "a login page in between"),
        ("/login", "a login page in between"),
        ("https://{host}/", "https instead of http: the base URL should be https://{host}/"),
    ],
)
@pytest.mark.parametrize("cls", [LoRAX, AsyncLoRAX])
def test_redirects_of_a_request_without_a_path(location, words, cls):
    with ScriptedServer(lambda connection: connection.json({})) as server:
        host = server.url.removeprefix("http://")
        server.script = responds(302, "", Location=location.format(host=host))
        llm = Caller(cls(server.url, meta_template="chatml", max_retries=0))
        with pytest.raises(ServerError) as caught:
            llm.generate("x")
        llm.close()
    assert words.format(host=host) in str(caught.value)
