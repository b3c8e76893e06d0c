"""Environment settings without a session: the same as requests, for both clients."""

import base64
import os
import subprocess
import sys
import traceback

import pytest
import requests

from lagent_llms import ConfigError, ConnectError, InvalidArgument, LMDeployClient
from lagent_llms.http.environment import read_environment
from tests.scripted_server import ScriptedServer
from tests.unit.http.connect_proxy import ConnectProxy


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """Remove every proxy, CA bundle and netrc that the test did not set."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def proxy():
    """An HTTP proxy that answers every request itself."""
    with ScriptedServer(lambda c: c.answer("by proxy")) as proxy:
        yield proxy


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def address(server):
    return server.url.partition("://")[2]


# proxies


@pytest.mark.parametrize(
    ("name", "value", "login"),
    [
        ("http_proxy", "http://{}", None),
        ("HTTP_PROXY", "http://{}", None),
        ("all_proxy", "http://{}", None),
        ("ALL_PROXY", "http://{}", None),
        ("http_proxy", "{}", None),
        ("http_proxy", "http://{}/", None),
        ("http_proxy", "http://me:p%40ss@{}", ("me", "p@ss")),
        ("http_proxy", "me:p%40ss@{}", ("me", "p@ss")),
        ("http_proxy", "http://me:p#s:s@{}", ("me", "p#s:s")),
        ("http_proxy", "me:p#s/s?@{}", ("me", "p#s/s?")),
        ("http_proxy", "http://me:p%23s%3As@{}", ("me", "p#s:s")),
        ("http_proxy", "http://m%40e:p@{}", ("m@e", "p")),
    ],
)
def test_a_proxy(connect, proxy, monkeypatch, name, value, login):
    monkeypatch.setenv(name, value.format(address(proxy)))
    client, _ = connect(None, url="http://model.test/base")
    assert client.generate("x") == "by proxy"
    (request,) = proxy.requests
    assert request.path == "http://model.test/base/v1/completions"
    assert request.headers["host"] == "model.test"
    assert request.headers.get("proxy-authorization") == (login and basic(*login))


@pytest.mark.parametrize(
    ("value", "login"), [("http://{}", None), ("{}", None), ("me:p%40s#:s@{}", ("me", "p@s#:s"))]
)
def test_a_proxy_for_https(connect, certificate, monkeypatch, value, login):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with (
        ScriptedServer(lambda c: c.answer("safe"), tls=certificate[1]) as server,
        ConnectProxy(int(server.url.rpartition(":")[2])) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", value.format(proxy.address))
        client, _ = connect(None, url="https://model.test")
        assert client.generate("x") == "safe"
        (head,) = proxy.heads
    sent = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
    assert sent.get("proxy-authorization") == (login and basic(*login).lower())


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", True),
        ("127.0.0.1", "10.0.0.0/8", False),
        ("127.0.0.1", "*", True),
        ("127.0.0.1", "127.0.0.2,model.test", False),
        ("localhost", "localhost", True),
        ("localhost", "localhost:{}", True),
        ("localhost", "localhost:1", False),
        ("localhost", ".localhost", True),
    ],
)
def test_no_proxy(connect, proxy, monkeypatch, host, no_proxy, direct):
    _, server = connect(lambda c: c.answer("direct"))
    port = server.url.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy.format(port))
    client, _ = connect(None, url=f"http://{host}:{port}")
    assert client.generate("x") == ("direct" if direct else "by proxy")


@pytest.mark.parametrize(
    ("no_proxy", "direct"), [("test", True), (".test", True), ("model.test", True), ("other.test", False)]
)
def test_domains_in_no_proxy(monkeypatch, no_proxy, direct):
    monkeypatch.setenv("HTTP_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    expected = None if direct else "http://proxy.test:3128"
    assert read_environment("http://model.test").proxy == expected


def test_unsupported_proxy_scheme_is_rejected(connect, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    client, _ = connect(None, url="http://model.test")
    with pytest.raises(ConfigError, match="socks5"):
        client.generate("x")


# certificates


@pytest.mark.parametrize(
    ("environment", "verify", "trusted"),
    [
        ({}, True, False),
        ({"REQUESTS_CA_BUNDLE": "right"}, True, True),
        ({"CURL_CA_BUNDLE": "right"}, True, True),
        ({"SSL_CERT_FILE": "right"}, True, True),
        ({"REQUESTS_CA_BUNDLE": "right", "CURL_CA_BUNDLE": "wrong"}, True, True),
        ({"REQUESTS_CA_BUNDLE": "wrong", "CURL_CA_BUNDLE": "right"}, True, False),
        ({"REQUESTS_CA_BUNDLE": "wrong", "SSL_CERT_FILE": "right"}, True, False),
        ({"REQUESTS_CA_BUNDLE": "folder"}, True, True),
        ({"REQUESTS_CA_BUNDLE": "wrong"}, "right", True),
        ({"REQUESTS_CA_BUNDLE": "right"}, "wrong", False),
        ({"REQUESTS_CA_BUNDLE": "wrong"}, False, True),
    ],
)
def test_certificates(connect, certificate, monkeypatch, tmp_path, environment, verify, trusted):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(certificate[0].read_bytes())
    subprocess.run(["openssl", "rehash", str(folder)], check=True)
    paths = {"right": certificate[0], "wrong": other_certificate(tmp_path), "folder": folder}
    for name, path in environment.items():
        monkeypatch.setenv(name, str(paths[path]))
    with ScriptedServer(lambda c: c.answer("safe"), tls=certificate[1]) as server:
        client, _ = connect(None, url=server.url, verify=paths.get(verify, verify))
        if trusted:
            assert client.generate("x") == "safe"
        else:
            with pytest.raises(ConnectError, match="(?i)certificate"):
                client.generate("x")


def other_certificate(folder):
    """Make a certificate that the server does not use; return its path."""
    path = folder / "other.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-subj", "/CN=other.test", "-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_missing_ca_bundle(connect, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    client, _ = connect(None, url="https://model.test")
    with pytest.raises(ConfigError, match=r"/nowhere/bundle\.pem"):
        client.generate("x")
    client, _ = connect(lambda c: c.answer("a"))  # http needs no bundle
    assert client.generate("x") == "a"


# credentials


@pytest.mark.parametrize(
    ("url", "kwargs", "expected"),
    [
        ("http://{}", {}, basic("net", "r#c")),
        ("http://{}", {"api_key": "key"}, "Bearer key"),
        ("http://{}", {"headers": {"authorization": "mine"}}, "mine"),
        ("http://me:p%40ss@{}", {}, basic("me", "p@ss")),
        ("http://me:p%40ss@{}", {"api_key": "key"}, basic("me", "p@ss")),
        ("http://me:p%40ss@{}", {"headers": {"Authorization": "mine"}}, basic("me", "p@ss")),
    ],
)
@pytest.mark.parametrize("place", [".netrc", "_netrc", "NETRC"])
def test_credentials_precedence(connect, monkeypatch, tmp_path, place, url, kwargs, expected):
    file = tmp_path / ("elsewhere" if place == "NETRC" else place)
    file.write_text("machine 127.0.0.1 login net password r#c\n")
    if place == "NETRC":
        monkeypatch.setenv("NETRC", str(file))
    _, server = connect(lambda c: c.answer("a"))
    client, _ = connect(None, url=url.format(address(server)), **kwargs)
    assert client.generate("x") == "a"
    assert server.requests[0].headers["authorization"] == expected


def test_netrc_entry_of_another_server_is_not_used(connect, tmp_path):
    (tmp_path / ".netrc").write_text("machine other.test login net password rc\n")
    client, server = connect(lambda c: c.answer("a"))
    assert client.generate("x") == "a"
    assert "authorization" not in server.requests[0].headers


# proxies of the caller


def test_proxies_of_the_caller_precede_the_environment(connect, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "server.test")
    client, _ = connect(
        None,
        url="http://server.test",
        proxies={"http": proxy.url.replace("://", "://me:s3cret@"), "https": None},
    )
    assert client.generate("x") == "by proxy"
    (request,) = proxy.requests
    assert request.path == "http://server.test/v1/completions"
    assert request.headers["proxy-authorization"] == "Basic bWU6czNjcmV0"


@pytest.mark.parametrize("proxies", ["http://me:s3cret@proxy", {"http": 5}, [("http", "x")]])
def test_proxies_of_another_form(connect, proxies):
    with pytest.raises(InvalidArgument, match="^proxies: allowed is None or a dict of URLs") as caught:
        connect(None, url="http://server.test", proxies=proxies)
    assert "s3cret" not in str(caught.value)


def test_proxies_beside_a_session():
    with requests.Session() as session, pytest.raises(InvalidArgument, match="proxies and session"):
        LMDeployClient("http://server.test", "m", session=session, proxies={"http": "http://proxy"})


# host names


@pytest.mark.parametrize(
    ("host", "sent"),
    [("bücher.test", "xn--bcher-kva.test"), ("例え.test:81", "xn--r8jz45g.test:81"), ("straße.test", None)],
)
def test_international_host_names(connect, proxy, monkeypatch, host, sent):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    client, _ = connect(None, url=f"http://{host}/é")
    assert client.generate("x") == "by proxy"
    (request,) = proxy.requests
    assert request.headers["host"] == (sent or "xn--strae-oqa.test")
    assert request.path == f"http://{request.headers['host']}/%C3%A9/v1/completions"


def test_invalid_host_name(connect):
    client, _ = connect(None, url="http://me:s3cret@ü-\u2488.test")
    with pytest.raises(ConfigError, match="host name") as caught:
        client.generate("x")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# time of reading


def test_the_environment_is_read_once(connect, proxy, monkeypatch):
    client, _ = connect(lambda c: c.answer("direct"))
    assert client.generate("x") == "direct"
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert client.generate("x") == "direct"


def test_requests_is_not_loaded_where_nothing_is_set():
    code = (
        "import sys; from lagent_llms.http.environment import read_environment as read;"
        "assert (read('http://a.test').proxy, read('https://a.test').verify) == (None, True);"
        "assert 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
