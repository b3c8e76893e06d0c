"""The OpenAI-style routes, with the router's quirks."""

import json
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from jobs import Job
from routes import Events, while_connected
from validation import Fields, GenerateRequest, Parameters, Rejected, ResponseFormat, read

REASONS = {"length": "length", "eos_token": "stop", "stop_sequence": "content_filter"}


class Common(Fields):
    """Fields of both routes; `max_completion_tokens` is no field, so it is ignored."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    max_tokens: int | None = None
    stop: list[str] = []
    stream: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    top_k: int | None = None
    ignore_eos_token: bool | None = None
    adapter_source: str | None = None
    api_token: str | None = None

    def parameters(self, **more):
        names = (
            "frequency_penalty",
            "presence_penalty",
            "top_p",
            "top_k",
            "repetition_penalty",
            "seed",
            "stop",
        )
        return Parameters(
            adapter_id=self.model or None,
            adapter_source=self.adapter_source,
            api_token=self.api_token,
            max_new_tokens=self.max_tokens,
            ignore_eos_token=bool(self.ignore_eos_token),
            details=True,
            **{name: getattr(self, name) for name in names},
            **more,
        )


class CompletionRequest(Common):
    prompt: str
    echo: bool | None = None
    best_of: int | None = None
    logprobs: int | None = None


class ChatRequest(Common):
    messages: list[dict[str, Any]]
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


def add_openai_routes(app, server):
    async def job(request, model):
        given = read(model, request.headers.get("content-type", ""), await request.body())
        if given.model == server.model_id:
            given.model = ""
        return given, request.headers.get("authorization", "")

    @app.post("/v1/completions")
    async def completions(request: Request):
        given, authorization = await job(request, CompletionRequest)
        parameters = given.parameters(
            temperature=given.temperature,
            do_sample=given.n is not None,
            best_of=given.best_of,
            return_full_text=given.echo,
            decoder_input_details=given.logprobs is not None,
        )
        one = Job(server, GenerateRequest(inputs=given.prompt, parameters=parameters), authorization)
        if given.stream:
            return Events(
                one, lambda item: _event(item, _text_choice, "text_completion"), b"data: [DONE]\n\n"
            )
        answer, headers = await while_connected(request, one)
        choice = {"index": 0, "text": answer["generated_text"], "logprobs": None}
        return JSONResponse(_whole(choice, answer, "text_completion"), headers=headers)

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        given, authorization = await job(request, ChatRequest)
        if given.tools:
            raise Rejected(422, "Tool error: this peer has no grammar for tools", "tool_error")
        greedy = given.temperature == 0
        parameters = given.parameters(
            temperature=None if greedy else given.temperature,
            do_sample=not greedy,
            best_of=given.n,
            response_format=_response_format(given.response_format),
        )
        prompt = _prompt(server, given.messages)
        request_ = GenerateRequest(inputs=prompt, parameters=parameters)
        one = Job(server, request_, authorization, special=False)
        if given.stream:
            return Events(
                one, lambda item: _event(item, _chat_choice, "chat.completion.chunk"), b"data: [DONE]\n\n"
            )
        answer, headers = await while_connected(request, one)
        message = {"role": "assistant", "content": answer["generated_text"]}
        return JSONResponse(
            _whole({"index": 0, "message": message}, answer, "text_completion"), headers=headers
        )


def _prompt(server, messages):
    try:
        return server.engine.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template may raise anything
        raise Rejected(422, f"Template error: {error}", "template_error") from error


def _response_format(given):
    """Convert OpenAI's response_format to that of the router."""
    if given is None or given.get("type") == "text":
        return None
    schema = given.get("schema") or (given.get("json_schema") or {}).get("schema")
    return ResponseFormat(type=given["type"], schema=schema)


def _whole(choice, answer, kind):
    details = answer["details"]
    return {
        "id": "null",
        "object": kind,
        "created": 0,
        "model": "null",
        "choices": [{**choice, "finish_reason": REASONS[details["finish_reason"]]}],
        "usage": _usage(details),
    }


def _usage(details):
    used = details["prompt_tokens"], details["generated_tokens"]
    return {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}


def _text_choice(item, reason):
    return {"text": "" if reason == "stop" else item["token"]["text"], "logprobs": None}


def _chat_choice(item, reason):
    text = item["token"]["text"]
    return {"delta": {} if reason == "stop" else {"role": "assistant", "content": text}}


def _event(item, choice, kind):
    if item is None:
        return b":\n\n"
    if "error" not in item:
        reason = REASONS[item["details"]["finish_reason"]] if item["details"] else None
        item = {
            "id": "null",
            "object": kind,
            "created": 0,
            "model": "null",
            "choices": [{"index": 0, **choice(item, reason), "finish_reason": reason}],
            **({"usage": _usage(item["details"])} if item["details"] else {}),
        }
    return f"data: {json.dumps(item, ensure_ascii=False)}\n\n".encode()
