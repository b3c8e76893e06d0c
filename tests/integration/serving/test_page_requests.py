"""What the pages' routes do for clients that are no page: almost nothing, and never for long."""

import http.client
from urllib.parse import urlsplit

import pytest

from lagent_llms.serving.limits import Limits
from lagent_llms.serving.pages import generations

from .test_openai_api import ask
from .test_pages import Endless

API = "/gradio_chat/gradio_api"


@pytest.fixture(scope="module")
def pages(engine):
    server = Endless(engine, {"host": "127.0.0.1", "port": 0}, limits=Limits(max_requests=2))
    server.fire(warm_up=False)
    yield server
    server.end()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{API}/upload"),
        ("GET", f"{API}/upload_progress?upload_id=1"),
        ("GET", f"{API}/file=/etc/passwd"),
        ("GET", f"{API}/file/etc/passwd"),
        ("GET", f"{API}/proxy=http://127.0.0.1:1/"),
        ("POST", f"{API}/run/answer"),
        ("POST", f"{API}/api/predict"),
        ("POST", f"{API}/call/answer"),
        ("POST", f"{API}/call/v2/answer"),
        ("POST", f"{API}/stream/1"),
        ("POST", f"{API}/process_recording"),
        ("POST", f"{API}/component_server"),
        ("POST", f"{API}/vibe-edit/"),
        ("GET", f"{API}/deep_link?session_hash=a"),
        ("GET", f"{API}/openapi.json"),
        ("GET", "/gradio_chat/monitoring"),
        ("POST", "/gradio_chat/login"),
        ("DELETE", "/gradio_chat/"),
        ("POST", "/gradio_instruct/gradio_api/upload"),
    ],
)
def test_the_framework_has_no_other_routes(pages, method, path):
    body = b"{}" if method == "POST" else None
    status, _, answer = ask(pages, path, body, method=method)
    assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_large_message_is_refused(pages):
    status, _, answer = ask(pages, f"{API}/queue/join", b"x" * (1 << 21))
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


def begin(server, visitor):
    """Submit a message as a page does; no page reads the answer yet."""
    config = ask(server, "/gradio_chat/config")[2]
    (submit,) = [
        item for item in config["dependencies"] if any(event == "submit" for _, event in item["targets"])
    ]
    data = ["Tell me a story", [], "", False, 100, 0.0]
    body = {"data": data, "fn_index": submit["id"], "session_hash": visitor, "event_data": None}
    return ask(server, f"{API}/queue/join", body)


def test_a_generation_that_nobody_reads_is_stopped(pages, wait_until, monkeypatch):
    monkeypatch.setattr(generations, "_UNREAD_SECONDS", 0.2)
    before = len(pages.begun)
    assert begin(pages, "nobody")[0] == 200
    wait_until(lambda: len(pages.begun) == before + 1)
    wait_until(pages.at_rest)


def test_a_generation_ends_with_its_page_and_counts_in_the_limits(pages, wait_until, monkeypatch):
    limits = pages.app.state.limits
    before = len(pages.begun)
    assert begin(pages, "reader")[0] == 200
    page = http.client.HTTPConnection(urlsplit(pages.url).netloc, timeout=60)
    page.request("GET", f"{API}/queue/data?session_hash=reader")
    assert b"data:" in page.getresponse().readline()
    wait_until(lambda: len(pages.begun) == before + 1)
    assert limits.in_flight == 1
    assert begin(pages, "another")[0] == 200
    wait_until(lambda: limits.in_flight == 2)
    body = {"model": pages.name, "prompt": "hello"}
    assert ask(pages, "/v1/completions", body)[0] == 429
    page.close()
    wait_until(lambda: limits.in_flight < 2)
    monkeypatch.setattr(generations, "_UNREAD_SECONDS", 0.2)
    wait_until(pages.at_rest)
    wait_until(lambda: limits.in_flight == 0)
    assert ask(pages, "/v1/completions", {**body, "max_tokens": 2})[0] == 200
