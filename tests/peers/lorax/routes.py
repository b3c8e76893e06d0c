"""LoRAX's own routes."""

import asyncio
import re

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from jobs import Job, as_event, cut_after
from validation import BatchRequest, EmbedRequest, GenerateRequest, Rejected, TokenizeRequest, read

VERSION = "0.1.0"


class Events(StreamingResponse):
    """Server-sent events of a job."""

    def __init__(self, job, render=as_event, end=b""):
        async def body():
            sent, cut = 0, cut_after(job.request)
            stream = job.stream()
            try:
                async for item in stream:
                    yield render(item)
                    sent += item is not None
                    if sent == cut:
                        raise ConnectionError("cut, as was asked for")
                yield end
            finally:
                await stream.aclose()

        headers = {**job.headers(), "x-accel-buffering": "no", "cache-control": "no-cache"}
        super().__init__(body(), media_type="text/event-stream", headers=headers)


async def while_connected(request, job):
    """Return ``job.whole()``; cancel it when the client disconnects."""
    answer = asyncio.ensure_future(job.whole())

    async def disconnected():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else ({}, {})
    finally:
        watch.cancel()
        answer.cancel()
        job.cancel()


def refused(_, error):
    if error.error_type is None:
        return PlainTextResponse(error.message, error.status)
    return JSONResponse(error.body, error.status)


def make_app(server):
    app = FastAPI(title="An independent peer that speaks LoRAX's protocol", version=VERSION, openapi_url=None)
    app.add_exception_handler(Rejected, refused)

    async def body(model, request):
        return read(model, request.headers.get("content-type", ""), await request.body())

    async def job(request):
        given = await body(GenerateRequest, request)
        return Job(server, given, request.headers.get("authorization", ""))

    @app.post("/")
    @app.post("/invocations")
    async def compat(request: Request):
        one = await job(request)
        if one.request.stream:
            return Events(one)
        answer, headers = await while_connected(request, one)
        return JSONResponse([answer], headers=headers)

    @app.post("/generate")
    async def generate(request: Request):
        answer, headers = await while_connected(request, await job(request))
        return JSONResponse(answer, headers=headers)

    @app.post("/generate_stream")
    async def generate_stream(request: Request):
        return Events(await job(request))

    @app.get("/health")
    @app.get("/ping")
    @app.get("/startup")
    async def health():
        return Response()

    @app.get("/info")
    async def info():
        config = server.engine.adapters.model.config
        return {
            "model_id": server.model_id,
            "model_sha": None,
            "model_dtype": "torch.float32",
            "model_device_type": "cpu",
            "model_pipeline_tag": None,
            **server.limits.model_dump(),
            "waiting_served_ratio": 1.2,
            "max_batch_total_tokens": config.max_position_embeddings,
            "max_waiting_tokens": 20,
            "validation_workers": 1,
            "eager_prefill": False,
            "version": VERSION,
            "sha": None,
            "docker_label": None,
            "request_logger_url": None,
        }

    @app.get("/metrics")
    async def metrics():
        figures = {
            "lorax_request_count": server.served,
            "lorax_batch_current_size": server.engine.sequences,
            "lorax_requests_active": server.active,
        }
        lines = [f"# TYPE {name} gauge\n{name} {value}\n" for name, value in figures.items()]
        return PlainTextResponse("".join(lines))

    @app.post("/tokenize")
    async def tokenize(request: Request):
        given = await body(TokenizeRequest, request)
        special = given.add_special_tokens is not False
        found = server.engine.fast.encode(given.inputs, add_special_tokens=special)
        return [
            {"id": token, "text": given.inputs[start:stop], "start": start, "stop": stop}
            for token, (start, stop) in zip(found.ids, found.offsets, strict=True)
        ]

    @app.post("/embed")
    async def embed(request: Request):
        given = await body(EmbedRequest, request)
        return {"embeddings": await asyncio.wrap_future(server.engine.embed(given.inputs))}

    @app.post("/classify")
    async def classify(request: Request):
        return entities((await body(EmbedRequest, request)).inputs)

    @app.post("/classify_batch")
    async def classify_batch(request: Request):
        return [entities(text) for text in (await body(BatchRequest, request)).inputs]

    return app


def entities(text):
    """Return capitalized words as entities, in place of a model for entities."""
    return [
        {"entity_group": "NAME", "score": 1.0, "word": found[0], "start": found.start(), "end": found.end()}
        for found in re.finditer(r"\b[A-Z]\w*", text)
    ]
