"""Who may call, and what they and the log are told: Host, keys, errors, the access log."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lagent_llms import AsyncJAXPipeline, JAXServer
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits
from lagent_llms.serving.openai import routes

from .test_openai_api import QUESTION, ask, chat

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "serve"]


@pytest.fixture(scope="module")
def host(engine):
    limits = Limits(api_keys={"alice": "sk-alice", "bob": "sk-bob"}, allowed_hosts=["llm.example"])
    app = openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded", limits)

    @app.get("/broken")
    async def broken():
        raise RuntimeError("a fault in /secret/path")

    with Host(app) as host:
        yield host


ALICE = {"Authorization": "Bearer sk-alice"}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("localhost:1", True),
        ("[::1]:2059", True),
        ("LLM.example.:80", True),
        ("evil.example", False),
        ("llm.example.evil.example", False),
        ("192.168.1.7:2059", False),
        ("", False),
    ],
)
def test_a_host_of_another_name_is_refused(host, name, allowed):
    """DNS rebinding: the page's name resolves to this machine."""
    given = {**ALICE, "Host": name}
    for path, method in (("/v1/models", "GET"), ("/gradio_chat", "GET"), ("/v1/chat/completions", "POST")):
        status, _, answer = ask(host, path, b"{}" if method == "POST" else None, given, method)
        assert (status == 403) is not allowed
        if not allowed:
            assert answer["error"]["code"] == "host_not_allowed"
    assert ask(host, "/health", headers=given)[0] == 200


def test_keys_have_names_in_the_access_log(host, caplog):
    caplog.set_level(logging.INFO, "lagent_llms.access")
    body = {"model": "embedded", "messages": QUESTION}
    for key, status in (("sk-alice", 200), ("sk-bob", 200), ("sk-bo", 401), ("", 401)):
        given = {"Authorization": f"Bearer {key}", "X-Request-Id": f"test-{key}"}
        answer = ask(host, "/v1/chat/completions", body, given)
        assert answer[0] == status
        assert answer[1]["x-request-id"] == f"test-{key}"
    found = [record.request for record in caplog.records]
    assert [(line["key"], line["status"]) for line in found] == [
        ("alice", 200),
        ("bob", 200),
        (None, 401),
        (None, 401),
    ]
    usage = ask(host, "/v1/chat/completions", body, ALICE)[2]["usage"]
    assert found[0]["route"] == "/v1/chat/completions"
    assert found[0]["method"] == "POST"
    assert found[0]["request_id"] == "test-sk-alice"
    assert found[0]["prompt_tokens"] == usage["prompt_tokens"]
    assert found[0]["completion_tokens"] == usage["completion_tokens"]
    assert found[0]["ms"] > 0
    assert "sk-" not in caplog.records[1].getMessage().replace("test-sk-bob", "")


def test_a_stream_is_logged_with_its_tokens(host, caplog):
    caplog.set_level(logging.INFO, "lagent_llms.access")
    body = {"model": "embedded", "messages": QUESTION, "stream": True}
    assert ask(host, "/v1/chat/completions", body, ALICE)[0] == 200
    assert caplog.records[-1].request["completion_tokens"] > 0


def test_an_exception_is_an_error_with_the_id_in_the_log(host, caplog):
    status, headers, answer = ask(host, "/broken", headers=ALICE)
    assert status == 500
    assert headers["x-request-id"] in answer["error"]["message"]
    assert answer["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(answer)
    (record,) = [record for record in caplog.records if record.name == "lagent_llms.serving"]
    assert headers["x-request-id"] in record.getMessage()
    assert "/secret/path" in str(record.exc_info[1])


def test_an_exception_in_a_stream_is_its_last_event(host, caplog, monkeypatch):
    make, made = routes.completion_chunks, []

    def broken(*args, **kwargs):
        made.append(1)
        if len(made) == 3:
            raise RuntimeError("a fault in /secret/path")
        return make(*args, **kwargs)

    monkeypatch.setattr(routes, "completion_chunks", broken)
    body = {"model": "embedded", "prompt": "Once", "stream": True, "ignore_eos": True, "max_tokens": 60}
    status, headers, text = ask(host, "/v1/completions", body, ALICE)
    assert status == 200
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert headers["x-request-id"] in last["error"]["message"]
    assert "secret" not in text
    assert any("/secret/path" in str(record.exc_info) for record in caplog.records if record.exc_info)


def test_an_exception_of_a_native_route(engine):
    class Broken(JAXServer):
        def forward_instruct(self, data):
            raise RuntimeError("a fault in /secret/path")

    server = Broken(engine, {"host": "127.0.0.1", "port": 0})
    server.fire(pages=False, warm_up=False)
    status, headers, answer = ask(server, "/instruct", {"prompt": "hello"})
    server.end()
    assert (status, answer["error"]["code"]) == (500, "server_error")
    assert headers["x-request-id"] in answer["error"]["message"]
    assert "secret" not in json.dumps(answer)


def test_a_public_jax_server_without_a_key_warns(engine, caplog):
    for given, warned in (({}, True), ({"limits": Limits(api_key="k")}, False)):
        caplog.clear()
        server = JAXServer(engine, {"port": 0}, **given)
        server.fire(pages=False, warm_up=False)
        server.end()
        assert any("without an API key" in record.getMessage() for record in caplog.records) is warned


def run(*arguments, **variables):
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*SERVE, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


def test_a_public_address_needs_a_key_or_insecure():
    done = run("--host", "0.0.0.0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --host=0.0.0.0 is reachable from other machines")
    assert "--insecure" in done.stderr


def test_the_command_with_a_key_file_and_a_json_log(tmp_path):
    """One server: keys by name, hosts, a warning about a key in the arguments, the log, no file left."""
    keys = tmp_path / "keys"
    keys.write_text("# who has which key\nalice sk-alice\n\nsk-bare\n")
    folder = tmp_path / "tmp"
    folder.mkdir()
    arguments = ["--port", "0", "--api-key-file", keys, "--api-key", "sk-given", "--log-format", "json"]
    process = subprocess.Popen(
        [*SERVE, *map(str, arguments), "--host", "0.0.0.0", "--allowed-host", "llm.example"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        url = process.stdout.readline().split()[2]
        server = type("Server", (), {"url": url})
        for key, name in (("sk-alice", "llm.example"), ("sk-bare", "localhost"), ("sk-given", "127.0.0.1")):
            given = {"Authorization": f"Bearer {key}", "Host": name}
            assert ask(server, "/v1/models", headers=given)[0] == 200
        assert (
            ask(server, "/v1/models", headers={"Authorization": "Bearer sk-alice", "Host": "e.vil"})[0] == 403
        )
        assert ask(server, "/v1/models")[0] == 401
        assert chat_with_key(server)[0] == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=120)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert "--api-key-file" in next(line["message"] for line in lines if line["level"] == "warning")
    served = [line for line in lines if line["logger"] == "lagent_llms.access"]
    assert [(line["route"], line["status"], line["key"]) for line in served] == [
        ("/v1/models", 200, "alice"),
        ("/v1/models", 200, "line-4"),
        ("/v1/models", 200, ""),
        ("other", 403, None),
        ("other", 401, None),
        ("/v1/chat/completions", 200, "alice"),
    ]
    assert served[-1]["completion_tokens"] > 0
    assert "sk-" not in log
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def chat_with_key(server):
    body = {"model": "embedded", "messages": QUESTION}
    return ask(server, "/v1/chat/completions", body, ALICE)


def test_a_client_may_not_forge_the_log(host, caplog):
    caplog.set_level(logging.INFO, "lagent_llms.access")
    headers = ask(host, "/health", headers={"X-Request-Id": "a b"})[1]
    assert len(headers["x-request-id"]) == 32
    assert chat(host)[0] == 401
