"""The extra `server`: an application answers over HTTP, has pages, and refuses requests of foreign pages."""

import http.client
import json

import pytest

from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.pages.mount import PageMount
from lagent_llms.serving.pages.source import LLMSource
from lagent_llms.testing import AsyncScriptedLLM

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
JSON = {"Content-Type": "application/json"}
JOIN = "/gradio_chat/gradio_api/queue/join"


@pytest.fixture(scope="module")
def llm():
    return AsyncScriptedLLM(["Hel", "lo"], meta_template="chatml")


@pytest.fixture(scope="module")
def host(llm):
    app = openai_app(llm, "m")
    PageMount(app, LLMSource(llm, "m"))
    with Host(app) as host:
        yield host


def ask(host, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_request_is_answered(host):
    status, text = ask(host, "POST", "/v1/chat/completions", BODY, JSON)
    assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, "Hello")


@pytest.mark.parametrize(
    "path", ["/gradio_chat/", "/gradio_instruct/", "/favicon.ico", "/metrics", "/health"]
)
def test_pages_are_there(host, path):
    status, text = ask(host, "GET", path)
    assert (status, bool(text)) == (200, True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", JOIN])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", **JSON},
        {"Origin": "null", **JSON},
        {"Sec-Fetch-Site": "cross-site", **JSON},
    ],
)
def test_cross_site_requests_are_refused(host, llm, path, headers):
    before = len(llm.requests)
    status, text = ask(host, "POST", path, BODY, headers)
    assert status in (400, 403, 415, 422), text
    assert len(llm.requests) == before


def test_a_page_of_this_machine_is_allowed(host):
    headers = {**JSON, "Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
    assert ask(host, "POST", "/v1/chat/completions", BODY, headers)[0] == 200
