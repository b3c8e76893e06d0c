"""Selection among several servers, and validation of their URLs."""

import pytest

from lagent_llms import InvalidArgument, JAXClient, LMDeployClient, LoRAX
from lagent_llms.http.endpoints import Endpoints, check_url, split_api


def test_take_returns_the_least_busy_reachable_server():
    now = [0.0]
    servers = Endpoints(["a", "b"], cooldown=10, clock=lambda: now[0])
    first, second = servers.take(), servers.take()
    assert {first, second} == {"a", "b"}
    servers.give_back("a")
    assert servers.take() == "a"
    servers.give_back("a", alive=False)
    assert [servers.take() for _ in range(3)] == ["b"] * 3
    now[0] = 11
    assert servers.take() == "a"


def test_take_returns_an_avoided_server_if_all_are_avoided():
    servers = Endpoints(["a", "b"])
    for url in (servers.take(), servers.take()):
        servers.give_back(url, alive=False)
    assert {servers.take(), servers.take()} == {"a", "b"}


@pytest.mark.parametrize("value", ["", " ", 7, "ftp://x", "http://", "http://x:99999", "http://x?y", None])
def test_check_url_rejects_an_invalid_url(value):
    with pytest.raises(InvalidArgument, match="url="):
        check_url("url", value)


def test_check_url_normalizes():
    assert check_url("url", "localhost:23333") == "http://localhost:23333"
    assert check_url("url", "https://x/prefix/") == "https://x/prefix"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://host:1", ("http://host:1", "/v1")),
        ("http://host/proxy/v1", ("http://host/proxy", "/v1")),
        ("http://host/v1/chat/completions", ("http://host", "/v1")),
        ("http://host/v1/completions", ("http://host", "/v1")),
        ("http://host/api/paas/v4", ("http://host/api/paas", "/v4")),
        ("http://host/v1beta/openai", ("http://host", "/v1beta/openai")),
        ("http://host/chat/completions", ("http://host", "")),
        ("http://v1.host/models", ("http://v1.host", "")),
        ("http://v1", ("http://v1", "/v1")),
    ],
)
def test_split_api(url, parts):
    assert split_api(url) == parts


@pytest.mark.parametrize("backend", [LMDeployClient, JAXClient, LoRAX])
def test_backends_take_the_url_of_a_server_of_its_api_and_of_a_route(backend):
    for end in ("", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/completions"):
        assert backend(f"http://host/proxy{end}").endpoints.urls == ("http://host/proxy",)
    assert backend("http://host/v4").endpoints.urls == ("http://host/v4",)


def test_give_back_does_not_block_while_the_lock_is_held():
    endpoints = Endpoints(["http://a", "http://b"])
    url = endpoints.take()
    with endpoints._lock:
        endpoints.give_back(url, alive=False)
    assert [endpoints.take() for _ in range(3)] == [next(one for one in endpoints.urls if one != url)] * 3


def test_a_preferred_server_is_taken_unless_it_is_avoided():
    endpoints = Endpoints(["a", "b"], clock=lambda: 0.0)
    assert [endpoints.take(1) for _ in range(3)] == ["b"] * 3
    endpoints.give_back("b", alive=False)
    assert endpoints.take(1) == "a"
