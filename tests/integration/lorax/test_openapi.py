"""The peer's answers match the OpenAPI document of LoRAX, except for errors of the document."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema
import pytest

from .conftest import prompt_of

DOCUMENT = json.loads(
    (Path(__file__).parents[2] / "data" / "lorax" / "openapi-answers.json").read_text(encoding="utf-8")
)
HELLO = prompt_of("Hello!")
CHAT = {"model": "", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20, "temperature": 0}
COMPLETION = {"model": "french", "prompt": HELLO, "max_tokens": 20}


def plain(schema):
    """Convert an OpenAPI 3.0 schema to a JSON schema, with nullable values as a type."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: plain(value)
        for key, value in schema.items()
        if key
        not in (
            "nullable",
            "default",
            "example",
            "format",
        )  # defaults are strings in the document, by mistake
    }
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") else found


def check(answer, name):
    schemas = plain(DOCUMENT["components"]["schemas"])
    jsonschema.validate(answer, {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}})


def ask(peer, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(peer.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def events(peer, path, body):
    _, text = ask(peer, path, body)
    found = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
    return [json.loads(one) for one in found if one != "[DONE]"], found[-1]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"details": True},
        {"details": True, "decoder_input_details": True},
        {"details": True, "do_sample": True, "best_of": 2},
        {"details": True, "adapter_id": "french", "stop": ["j"], "return_k_alternatives": 2},
    ],
    ids=str,
)
def test_answers(peer, parameters):
    body = {"inputs": HELLO, "parameters": {"max_new_tokens": 20, **parameters}}
    status, text = ask(peer, "/generate", body)
    assert status == 200
    check(json.loads(text), "GenerateResponse")
    (one,) = json.loads(ask(peer, "/", body)[1])  # documented as an object, but it is a list of one object
    check(one, "GenerateResponse")


def test_streams(peer):
    body = {
        "inputs": HELLO,
        "parameters": {"max_new_tokens": 20, "details": True, "return_k_alternatives": 2},
    }
    found, _ = events(peer, "/generate_stream", body)
    assert len(found) > 5
    for one in found:
        check(one, "StreamResponse")
    assert events(peer, "/", {**body, "stream": True})[0] == found


def test_openai_routes(peer):
    check(json.loads(ask(peer, "/v1/chat/completions", CHAT)[1]), "ChatCompletionResponse")
    check(json.loads(ask(peer, "/v1/completions", COMPLETION)[1]), "CompletionResponse")
    for path, body, name in (
        ("/v1/chat/completions", CHAT, "ChatCompletionStreamResponse"),
        ("/v1/completions", COMPLETION, "CompletionStreamResponse"),
    ):
        found, last = events(peer, path, {**body, "stream": True})
        assert last == "[DONE]"
        for one in found:
            check(one, name)


def test_info_and_errors(peer):
    check(json.loads(ask(peer, "/info")[1]), "Info")
    for path, body, expected in (
        ("/generate", {"inputs": ""}, 422),
        ("/generate", {"inputs": "x", "parameters": {"adapter_id": "nobody"}}, 424),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": 5}]}, 422),
    ):
        status, text = ask(peer, path, body)
        assert status == expected
        check(json.loads(text), "ErrorResponse")
    (error,), _ = events(peer, "/generate_stream", {"inputs": ""})
    check(error, "ErrorResponse")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b'{"inputs": 5}', 422), (b'{"inputs": "x", "parameters": null}', 422), (b"[]", 422)],
)
def test_rejections_are_plain_text(peer, body, status):
    """The document does not mention plain text."""
    request = urllib.request.Request(peer.url + "/generate", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == status
    assert caught.value.headers["content-type"].startswith("text/plain")
