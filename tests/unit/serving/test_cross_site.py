"""Requests that a browser may send for a page of another site: none that changes anything."""

import pytest

from lagent_llms.serving.cross_site import cross_site_refusal, host_refusal

JSON = {"host": "127.0.0.1:2059", "content-length": "2", "content-type": "application/json"}


def refusal(method="POST", origins=(), **headers):
    given = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = {name.encode(): value.encode() for name, value in given.items() if value is not None}
    found = cross_site_refusal(method, raw, origins)
    return found and (found[0], found[2])


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, the openai package
        {"origin": "http://127.0.0.1:2059", "sec_fetch_site": "same-origin"},
        {"origin": "http://localhost:3000", "sec_fetch_site": "cross-site"},  # a page of this machine
        {"origin": "http://[::1]:80"},
        {"sec_fetch_site": "none"},
        {"host": "llm.lan:2059", "origin": "http://llm.lan:2059"},  # plain HTTP: no Sec-Fetch-Site
        {"host": "127.0.0.1:2059", "x_forwarded_host": "llm.example", "origin": "https://llm.example"},
        {"host": "127.0.0.1:2059", "origin": "https://llm.example", "sec_fetch_site": "same-origin"},
        {"content_type": "text/plain"},  # no browser header: the routes validate the body
        {"content_type": None, "content_length": "0"},
        {"content_type": None, "content_length": None},
    ],
)
def test_requests_that_are_allowed(headers):
    assert refusal(**headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "http://evil.example", "content_type": "text/plain"},
        {"origin": "null"},
        {"origin": "null", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "https://other.llm.example", "host": "llm.example"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://localhost:1@evil.example"},
        {"origin": "http://127.0.0.1:9999.evil.example"},
    ],
)
def test_requests_of_a_foreign_page_are_refused(headers):
    assert refusal(**headers) == (403, "cross_site")
    assert refusal("DELETE", **headers) == (403, "cross_site")
    assert refusal("GET", **headers) is None


def test_a_body_needs_a_content_type():
    assert refusal(content_type=None) == (415, "no_content_type")
    assert refusal(content_type=None, content_length=None, transfer_encoding="chunked") == (
        415,
        "no_content_type",
    )


@pytest.mark.parametrize(
    ("origins", "allowed"), [(["https://example.org"], True), (["*"], True), ([], False)]
)
def test_configured_origins_are_allowed(origins, allowed):
    headers = {"origin": "https://example.org", "sec_fetch_site": "cross-site"}
    assert (refusal(origins=origins, **headers) is None) is allowed


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST:2059",
            "app.localhost",
            "localhost.",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:2059",
        ),
        *("192.168.1.5:2059", "llm.lan", "LLM.lan.:80", "[2001:db8:0::1]:80"),
    ],
)
def test_hosts_that_are_this_server(host):
    for bound in ("192.168.1.5", "::ffff:192.168.1.5"):
        assert host_refusal([host.encode()], bound, ["llm.lan", "2001:db8::1"]) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "192.168.1.6",
        ),
        *("", " ", ":80", "llm.lan:80:80", "user@llm.lan", "llm.lan/x", "[::2]", "[::1", "0.0.0.0", "\xff"),
    ],
)
def test_hosts_of_others_are_refused(host):
    refused = host_refusal([host.encode("latin-1")], "192.168.1.5", ["llm.lan"])
    assert refused is not None
    assert (refused[0], refused[2]) == (403, "host_not_allowed")


def test_special_cases_of_hosts():
    assert host_refusal([], "1.2.3.4") is None  # HTTP/1.0: no browser
    assert host_refusal([b"evil.example"], "1.2.3.4", ["*"]) is None
    assert host_refusal([b"localhost", b"evil.example"], "1.2.3.4") is not None
