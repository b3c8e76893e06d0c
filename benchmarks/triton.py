"""Client CPU time per streamed response of a tritonserver: this library and tritonclient's own streams.

The same scripted model (TensorRT-LLM's inputs, one token per response) answers all requests, at full speed or
with a pause before each token, like a real model. "Raw stub" is the generated gRPC stub, which only decodes
the text. The figures are the CPU time of the whole process, gRPC's threads included: medians of
many rounds, and of the ratios within a round.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import tritonclient.grpc as tritonclient
import tritonclient.grpc.aio as tritonclient_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks import report
from lagent_llms import AsyncTritonClient, TritonClient
from tests import triton_peer

NAME = "triton"
MODEL = "trtllm-scripted"
TOKENS = 100
#: Instruction for the scripted model -> description.
PACES = {"": "at full speed", "[[slow 0.005]]": "5 ms a token"}
EXPECTED = "".join(f"t{n} " for n in range(TOKENS))


def request_message(prompt: str) -> Any:
    """Return the request that every candidate sends."""
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    text = prompt.encode()
    for name, datatype, raw in (
        ("text_input", "BYTES", len(text).to_bytes(4, "little") + text),
        ("max_tokens", "INT32", TOKENS.to_bytes(4, "little")),
        ("stream", "BOOL", b"\x01"),
        ("exclude_input_in_output", "BOOL", b"\x01"),
    ):
        message.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        message.raw_input_contents.append(raw)
    return message


def tensors(module: Any, prompt: str) -> list[Any]:
    """Return its inputs as tritonclient's objects."""
    found = []
    for name, datatype, array in (
        ("text_input", "BYTES", np.array([[prompt.encode()]], dtype=object)),
        ("max_tokens", "INT32", np.array([[TOKENS]], dtype=np.int32)),
        ("stream", "BOOL", np.array([[True]])),
        ("exclude_input_in_output", "BOOL", np.array([[True]])),
    ):
        found.append(module.InferInput(name, [1, 1], datatype))
        found[-1].set_data_from_numpy(array)
    return found


def text_of(response: Any) -> str:
    raw: bytes = response.infer_response.raw_output_contents[0]
    return raw[4:].decode()


class Synchronous:
    """The synchronous candidates."""

    def __init__(self, address: str, prompt: str) -> None:
        self._prompt = prompt
        self._ours = TritonClient(address, MODEL, max_new_tokens=TOKENS)
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._client = tritonclient.InferenceServerClient(address)
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._client.start_stream(lambda result, error: self._results.put((result, error)))
        self._inputs = tensors(tritonclient, prompt)

    def ours(self) -> Iterator[str]:
        """This library."""
        for chunk in self._ours.stream_generate(self._prompt):
            yield chunk.delta

    def raw_stub(self) -> Iterator[str]:
        """The generated stub."""
        for response in self._stub.ModelStreamInfer(iter([request_message(self._prompt)])):
            if response.infer_response.raw_output_contents:
                yield text_of(response)

    def tritonclient_stream(self) -> Iterator[str]:
        """Tritonclient's persistent stream."""
        self._client.async_stream_infer(MODEL, self._inputs, enable_empty_final_response=True)
        while True:
            result, error = self._results.get()
            if error is not None:
                raise error
            if result.get_response().parameters["triton_final_response"].bool_param:
                return
            yield result.as_numpy("text_output").ravel()[0].decode()

    def close(self) -> None:
        """Close all of them."""
        self._client.stop_stream()
        self._client.close()
        self._channel.close()
        self._ours.close()


class Asynchronous:
    """The asynchronous candidates, made on the loop that runs them."""

    def __init__(self, address: str, prompt: str) -> None:
        self._prompt = prompt
        self._ours = AsyncTritonClient(address, MODEL, max_new_tokens=TOKENS)
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._client = tritonclient_aio.InferenceServerClient(address)
        self._inputs = tensors(tritonclient, prompt)

    async def ours(self) -> AsyncIterator[str]:
        """This library."""
        async for chunk in self._ours.stream_generate(self._prompt):
            yield chunk.delta

    async def raw_stub(self) -> AsyncIterator[str]:
        """The generated stub."""

        async def requests() -> AsyncIterator[Any]:
            yield request_message(self._prompt)

        async for response in self._stub.ModelStreamInfer(requests()):
            if response.infer_response.raw_output_contents:
                yield text_of(response)

    async def tritonclient_aio(self) -> AsyncIterator[str]:
        """Tritonclient's asynchronous client."""

        async def requests() -> AsyncIterator[Any]:
            yield {"model_name": MODEL, "inputs": self._inputs}

        async for result, error in self._client.stream_infer(requests()):
            if error is not None:
                raise error
            yield result.as_numpy("text_output").ravel()[0].decode()

    async def close(self) -> None:
        """Close all of them."""
        await self._client.close()
        await self._channel.close()
        await self._ours.aclose()


def reading(stream: Callable[[], Iterator[str]], requests: int) -> Callable[[], None]:
    def read() -> None:
        for _ in range(requests):
            assert "".join(stream()) == EXPECTED

    return read


def awaiting(
    loop: asyncio.AbstractEventLoop, stream: Callable[[], AsyncIterator[str]], requests: int, at_once: int
) -> Callable[[], None]:
    async def one() -> None:
        assert "".join([text async for text in stream()]) == EXPECTED

    async def read() -> None:
        for _ in range(requests // at_once):
            await asyncio.gather(*(one() for _ in range(at_once)))

    return lambda: loop.run_until_complete(read())


def measure(quick: bool) -> dict[str, Any]:
    rounds = 3 if quick else 30
    figures: dict[str, Any] = {}
    with triton_peer.served([MODEL]) as peer:
        for pause, pace in PACES.items():
            requests = 4 if pause else 20  # in sequence
            for group, candidates, asked, close in groups(peer.grpc, f"[[tokens {TOKENS}]]{pause}", requests):
                for warm_up in candidates.values():
                    warm_up()
                times = report.interleaved(candidates, rounds)
                medians, ratios = report.median(times), report.ratios(times, "raw_stub")
                figures[f"{group}, {pace}"] = {
                    name: {"microseconds": medians[name] / asked / TOKENS * 1e6, "ratio": ratios[name]}
                    for name in candidates
                }
                close()
    return {"streams": figures}


def groups(
    address: str, prompt: str, requests: int
) -> Iterator[tuple[str, dict[str, Callable[[], None]], int, Callable[[], None]]]:
    """Yield name, candidates, requests of a round, and a function that closes them."""
    sync = Synchronous(address, prompt)
    names = ("raw_stub", "tritonclient_stream", "ours")
    yield "sync", {name: reading(getattr(sync, name), requests) for name in names}, requests, sync.close
    for at_once in (1, 20):
        loop = asyncio.new_event_loop()

        async def make() -> Asynchronous:
            return Asynchronous(address, prompt)

        aio = loop.run_until_complete(make())
        names, asked = ("raw_stub", "tritonclient_aio", "ours"), max(requests, at_once)
        candidates = {name: awaiting(loop, getattr(aio, name), asked, at_once) for name in names}

        def close(loop: asyncio.AbstractEventLoop = loop, aio: Asynchronous = aio) -> None:
            loop.run_until_complete(aio.close())
            loop.close()

        yield f"async, {at_once} at once", candidates, asked, close


def tables(figures: dict[str, Any]) -> str:
    rows = [
        [group, name.replace("_", " "), f"{found['microseconds']:.0f}", f"{found['ratio']:.2f}x"]
        for group, candidates in figures["streams"].items()
        for name, found in candidates.items()
    ]
    return report.table(["streams", "client", "CPU a response, µs", "of the raw stub"], rows)


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=["tritonclient", "grpcio"])
