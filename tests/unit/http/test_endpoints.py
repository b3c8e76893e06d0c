"""The choice among several servers, and the form of their URLs."""

import pytest

from lagent_llms import InvalidArgument
from lagent_llms.http.endpoints import Endpoints, check_url


def test_the_least_busy_server_is_taken_and_a_dead_one_rests():
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


def test_when_all_rest_one_is_tried_all_the_same():
    servers = Endpoints(["a"])
    servers.give_back(servers.take(), alive=False)
    assert not servers.alive
    assert servers.take() == "a"


@pytest.mark.parametrize("value", ["", " ", 7, "ftp://x", "http://", "http://x:99999", "http://x?y", None])
def test_what_is_no_url_is_refused(value):
    with pytest.raises(InvalidArgument, match="url="):
        check_url("url", value)


def test_urls_as_people_write_them():
    assert check_url("url", "localhost:23333") == "http://localhost:23333"
    assert check_url("url", "https://x/prefix/") == "https://x/prefix"


def test_a_finalizer_gives_a_server_back_without_waiting():
    endpoints = Endpoints(["http://a", "http://b"])
    url = endpoints.take()
    with endpoints._lock:
        endpoints.give_back(url, alive=False)
    assert [endpoints.take() for _ in range(3)] == [next(one for one in endpoints.urls if one != url)] * 3
