"""No error, repr, pickle or traceback shows a secret, on any HTTP backend; addresses that cannot be used."""

import pickle
import traceback

import aiohttp
import pytest
import requests

from lagent_llms import (
    AsyncJAXClient,
    AsyncLMDeployClient,
    AsyncLoRAX,
    AsyncOpenAIClient,
    AsyncTritonClient,
    ConfigError,
    ConnectError,
    InvalidArgument,
    JAXClient,
    LLMError,
    LMDeployClient,
    LoRAX,
    OpenAIClient,
    ServerError,
    TritonClient,
)
from lagent_llms.backends.lorax.protocol import Adapter
from lagent_llms.http.config import direct_routes
from lagent_llms.http.exchange import Send
from lagent_llms.http.messages import HTTPRequest
from lagent_llms.http.secrets import Secrets, hide_credentials
from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.testing.conformance import Caller
from tests.scripted_server import ScriptedServer, free_port
from tests.unit.http.connect_proxy import ConnectProxy

KEY, OTHER, TOKEN = "sk-very-secret", "my-header-key", "tok-adapter"  # named: a traceback shows the source
BACKENDS = [LMDeployClient, JAXClient, LoRAX, TritonClient, AsyncLMDeployClient, AsyncJAXClient, AsyncLoRAX]
BACKENDS += [AsyncTritonClient, OpenAIClient, AsyncOpenAIClient]


def shown(error):
    """Return every text of `error` that a log, a traceback or a pickle may show."""
    parts = [*traceback.format_exception(error), repr(error), str(pickle.dumps(error)), repr(vars(error))]
    return "".join(parts)


def failure(call):
    with pytest.raises(LLMError) as caught:
        call()
    return caught.value


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


# errors of servers


def repeats(connection):
    """Answer with everything that was received, as debugging gateways do."""
    connection.json({"error": {"message": f"bad: {connection.headers} {connection.body}", "code": KEY}}, 401)


def repeats_as_text(connection):
    connection.head(500, "text/html")
    connection.chunk(f"<pre>{connection.path} {connection.headers} {connection.body}</pre>")
    connection.chunk()


def repeats_as_answer(connection):
    connection.json([f"{connection.headers} {connection.body}"])


def repeats_as_event(connection):
    connection.head()
    connection.event({"error": {"message": str(connection.headers), "code": 500}})
    connection.chunk()


SCRIPTS = [repeats, repeats_as_text, repeats_as_answer, repeats_as_event]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("cls", BACKENDS)
def test_a_key_that_the_server_repeats_is_redacted(cls, script):
    with ScriptedServer(script) as server:
        llm = Caller(cls(server.url, model_name="m", api_key=KEY, headers={"X-Key": OTHER}, max_retries=0))
        text = shown(failure(lambda: llm.generate("x"))) + repr(llm.llm)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        llm.close()
    assert KEY not in text
    assert OTHER not in text


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("cls", [Client, AsyncClient])
def test_secrets_of_the_lorax_client(cls, script):
    with ScriptedServer(script) as server:
        headers, cookies = {"Authorization": f"Bearer {KEY}"}, {"session": "my-cookie-value"}
        client = Caller(cls(server.url, headers, cookies, max_session_retries=0))
        text = shown(failure(lambda: client.generate("x", api_token=TOKEN)))
        client.close()
    assert not [secret for secret in (KEY, "my-cookie-value", TOKEN) if secret in text]


def test_the_adapter_token_of_the_lorax_backend():
    with ScriptedServer(repeats) as server, LoRAX(server.url, api_token=TOKEN) as llm:
        assert TOKEN not in shown(failure(lambda: llm.chat("x")))


def test_a_password_in_the_url_is_redacted(connect):
    script = repeats_as_text
    with ScriptedServer(script) as server:
        url = server.url.replace("//", "//me:s3cr%40et@")
        client, _ = connect(None, url=url)
        error = failure(lambda: client.generate("x"))
    basic = server.requests[0].headers["authorization"].split()[1]
    assert not [secret for secret in ("s3cr%40et", "s3cr@et", basic) if secret in shown(error)]
    assert "s3cr" not in repr(client.llm)


def test_secrets_of_a_session():
    secrets = "my-header-key", "my-cookie-value", "my-query-key"
    with ScriptedServer(repeats_as_text) as server, requests.Session() as session:
        session.headers["X-Api-Key"], session.params = secrets[0], {"key": secrets[2]}
        session.cookies.set("sid", secrets[1])
        session.auth = ("me", "my-password")
        llm = LMDeployClient(server.url, "m", max_retries=0, session=session)
        text = shown(failure(lambda: llm.generate("x")))
        session.headers["X-Api-Key"] = "my-next-header-key"
        text += shown(failure(lambda: llm.generate("x")))
    assert not [secret for secret in (*secrets, "my-next-header-key") if secret in text]
    assert requests.auth._basic_auth_str("me", "my-password").split()[1] not in text


async def test_secrets_of_an_aiohttp_session():
    auth = aiohttp.BasicAuth("me", "my-password")
    with ScriptedServer(repeats) as server:
        given = {"headers": {"X-Api-Key": "my-header-key"}, "cookies": {"sid": "my-cookie-value"}}
        async with aiohttp.ClientSession(**given, auth=auth) as session:
            llm = AsyncLMDeployClient(server.url, "m", max_retries=0, session=session)
            with pytest.raises(ServerError) as caught:
                await llm.generate("x")
            session.headers["X-Api-Key"] = "my-next-header-key"
            with pytest.raises(ServerError) as later:
                await llm.generate("x")
    assert "my-next-header-key" not in shown(later.value)
    assert "my-header-key" not in shown(caught.value)
    assert "my-cookie-value" not in shown(caught.value)
    assert auth.encode().split()[1] not in shown(caught.value)


def test_no_repr_shows_a_secret():
    url = "http://me:s3cret@host"
    triton = TritonClient("http://host:1", api_key=KEY, headers={"X-Key": OTHER})
    llm = LoRAX(url, api_key=KEY, api_token=TOKEN, headers={"X-Key": OTHER})
    routes = direct_routes([url], {"X-Key": OTHER}, KEY, verify=True, environment_proxy=False)
    calls = [Adapter(api_token=TOKEN), Send(url, HTTPRequest("GET", "/", headers={"X-Key": OTHER}))]
    shown = repr([triton, triton.server, llm, llm.transport.settings, routes, *calls])
    assert not [secret for secret in (KEY, OTHER, TOKEN, "s3cret") if secret in shown]


def test_causes_that_hold_a_secret_are_dropped():
    error = ServerError("no")
    error.__cause__ = ValueError("http://me:s3cret@proxy")
    error.__cause__.__context__ = KeyError("harmless")
    other = ServerError("no")
    other.__cause__ = harmless = OSError("harmless")
    for one in (error, other):
        Secrets.of("s3cret").redact_error(one)
    assert (error.__cause__, other.__cause__) == (None, harmless)


def test_what_counts_as_a_secret():
    headers = {"X-Token-Limit": "4096", "Cookie": "a=my-cookie; b=2", "X-Auth": "none", "Accept": "secretly"}
    assert Secrets.of(*Secrets.in_headers(headers)).values == ("my-cookie",)
    assert Secrets.of("a pass phrase").redact("a pass phrase, phrase, pass") == "***, ***, ***"
    assert "secret" not in repr(Secrets.of("secret"))


# addresses


MISTYPED = [
    "http//user:pw@host",
    "http:/user:pw@host",
    "user:pw@host:port",
    "http://user:p#pw@host",
    "http://user:p/pw@host",
    "http://user:1/pw@host",
    "http://user:p?pw@host",
    "http://user:p@pw@host:99999",
    "http://user:pw@a..b",
    "ftp://user:pw@host",
    "http://user:pw@host?a=1",
    b"http://user:pw@host",
    ["http://user:pw@[::1"],
]


@pytest.mark.parametrize("url", MISTYPED)
def test_a_mistyped_url_shows_no_password(connect, url):
    with pytest.raises(InvalidArgument, match="url=") as caught:
        connect(None, url=url)
    assert "pw" not in shown(caught.value)
    with pytest.raises(InvalidArgument, match="tritonserver_addr=") as caught:
        TritonClient(url)
    assert "pw" not in shown(caught.value)
    with pytest.raises(InvalidArgument, match="base_url=") as caught:
        Client(url)
    assert "pw" not in shown(caught.value)


def test_a_password_with_an_at_sign_is_sent(connect):
    with ScriptedServer(lambda connection: connection.answer("a")) as server:
        client, _ = connect(None, url=server.url.replace("//", "//me:p@w@"))
        assert client.generate("x") == "a"
    assert server.requests[0].headers["authorization"] == requests.auth._basic_auth_str("me", "p@w")


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b", "http://.a", "http://" + "a" * 64, "http://" + "\u00fc" * 70, "http://a b", "http://a\tb",
        "http://a\nb", "http://a/\x00", "http://a\\b", "http://a:0", "http://a:b", "http://a:99999", "http://a:\u0663",
        "http://[::1", "http://[x]", "http://a%20b", "http://", "http://:80", "//",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused(connect, url):
    with pytest.raises(InvalidArgument, match="url="):
        connect(None, url=url)


@pytest.mark.parametrize(
    "url",
    ["http://\u00fc-\u2488.test", "http://[fe80::1%25nope]:1", "http://xn--a.invalid", "http://a.invalid."],
)
def test_an_address_without_a_server_is_an_llm_error(connect, url):
    client, _ = connect(None, url=url)
    assert isinstance(failure(lambda: client.generate("x")), (ConnectError, ConfigError))


def test_hide_credentials():
    assert hide_credentials("http://host:80/a") == "http://host:80/a"
    assert hide_credentials("http://u:p@h") == "http://***@h"
    assert hide_credentials("u:p/@@h:1") == "***@h:1"
    assert hide_credentials("http://u:p?q@h") == "http://***@h"
    assert hide_credentials("http://h/v1?api-key=s3cret") == "http://h/v1?***"
    assert hide_credentials(["http://g", "http://h/?key=s3cret"]) == "['http://g', 'http://h/?***']"
    assert hide_credentials(7) == "7"


# proxies


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", ["", "me:s3cret@", "me:s3/c#ret@"])
def test_a_dead_proxy_is_named(connect, monkeypatch, scheme, login):
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://{login}127.0.0.1:{port}")
    client, _ = connect(None, url=f"{scheme}://model.test")
    error = failure(lambda: client.generate("x"))
    assert type(error) is ConnectError
    assert f"{scheme}://model.test through the proxy http://127.0.0.1:{port}: " in str(error)
    assert "s3" not in shown(error)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_named(connect, monkeypatch, status):
    with ConnectProxy(0, status=status) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@{proxy.address}")
        client, _ = connect(None, url="https://model.test")
        tunnel = failure(lambda: client.generate("x"))
    monkeypatch.undo()
    with ScriptedServer(lambda c: c.json({"error": "no s3cret"}, status)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:s3cret@"))
        client, _ = connect(None, url="http://model.test")
        plain, address = failure(lambda: client.generate("x")), proxy.url
    assert f"through the proxy {address}" in str(plain)
    assert "through the proxy http://127.0.0.1:" in str(tunnel)
    assert f"HTTP {status}" in str(plain)
    assert str(status) in str(tunnel)
    assert "s3cret" not in shown(plain) + shown(tunnel)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_of_a_session_is_named(scheme):
    port = free_port()
    with requests.Session() as session:
        session.proxies = {scheme: f"http://me:s3cret@127.0.0.1:{port}"}
        llm = LMDeployClient(f"{scheme}://model.test", "m", max_retries=0, session=session)
        error = failure(lambda: llm.generate("x"))
    assert f"127.0.0.1:{port}" in str(error)
    assert "s3cret" not in shown(error)


@pytest.mark.parametrize(
    "proxy", ["http://me:s3cret@[::1", "http://me:s3cret@:80", "http://me:s3cret@a..b:80"]
)
def test_a_mistyped_proxy_of_a_session_shows_no_password(proxy):
    with requests.Session() as session:
        session.proxies = {"http": proxy}
        error = failure(
            lambda: LMDeployClient("http://model.test", "m", max_retries=0, session=session).generate("x")
        )
    assert "s3cret" not in shown(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_dead_proxy_of_an_aiohttp_session_is_named(scheme, monkeypatch):
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:s3cret@127.0.0.1:{port}")
    async with aiohttp.ClientSession(trust_env=True) as session:
        llm = AsyncLMDeployClient(f"{scheme}://model.test", "m", max_retries=0, session=session)
        with pytest.raises(ConnectError, match=f"the proxy 127.0.0.1:{port} cannot be reached") as caught:
            await llm.generate("x")
    assert "s3cret" not in shown(caught.value)
