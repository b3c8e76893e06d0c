"""Base of all models: concurrent requests on an event loop, cancellation, errors, events."""

import asyncio
import itertools
import json
import threading
from abc import ABC, abstractmethod

import triton_python_backend_utils as pb_utils

from .answers import Answers, Failure
from .events import log_event

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Tensors:
    """Base of all models: their config, and tensors as Python's own types."""

    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        self.name = args["model_name"]
        self.batched = self.config["max_batch_size"] > 0
        self.outputs = {item["name"]: item for item in self.config["output"]}

    def setting(self, name):
        return self.config["parameters"].get(name, {}).get("string_value") == "true"

    def values(self, request, name):
        """Return the values of an input as a flat list of Python's own types; [] if it was not sent."""
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            return []
        items = tensor.as_numpy().ravel().tolist()
        return [item.decode() if isinstance(item, bytes) else item for item in items]

    def value(self, request, name, default=None):
        return (self.values(request, name) or [default])[0]

    def tensor(self, name, values, shape=None):
        import numpy as np

        dtype = pb_utils.triton_string_to_numpy(self.outputs[name]["data_type"])
        values = [value.encode() if isinstance(value, str) else value for value in values]
        array = np.array(values, dtype=dtype)
        shape = shape or ((1, len(values)) if self.batched else (len(values),))
        return pb_utils.Tensor(name, array.reshape(shape))


class Model(Tensors, ABC):
    """Base of the dialects, which read requests and write responses.

    ``read(request)`` returns an `Ask`, ``write(ask, piece)`` the output tensors of one response.
    """

    def initialize(self, args):
        super().initialize(args)
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(self.config)
        self.answers = Answers(self.setting("embedded"))
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def execute(self, requests):
        if self.decoupled:
            for request in requests:
                asyncio.run_coroutine_threadsafe(
                    self._serve(request, request.get_response_sender()), self._loop
                )
            return None
        whole = [_Whole(request) for request in requests]
        for request, sender in zip(requests, whole, strict=True):
            asyncio.run_coroutine_threadsafe(self._serve(request, sender), self._loop).result()
        return [sender.response(self) for sender in whole]

    # The hooks of a dialect.

    @abstractmethod
    def read(self, request):
        """Return the `Ask` of a request."""

    @abstractmethod
    def write(self, ask, piece):
        """Return the output tensors of one response."""

    async def pieces(self, ask):
        """Yield the answer piece by piece, or in one piece if the request is not streamed."""
        text, ids, logprobs, piece = ask.before, (), (), None
        async for piece in self.answers.pieces(ask):
            if ask.stream:
                yield piece
            text, ids, logprobs = text + piece.text, ids + piece.token_ids, logprobs + piece.logprobs
        if not ask.stream:
            piece.text, piece.token_ids, piece.logprobs = text, ids, logprobs
            yield piece

    # One request.

    async def _serve(self, request, sender):
        number = f"{self.name}-{next(self._numbers)}"
        log_event("begin", id=number, **self._seen(request))
        why, count = "error", 0
        try:
            ask = self.read(request)
            pieces = self.pieces(ask)
            while True:
                step = asyncio.ensure_future(pieces.__anext__())
                while not step.done() and not sender.is_cancelled():
                    await asyncio.wait({step}, timeout=0.05)
                if sender.is_cancelled():
                    step.cancel()
                    await asyncio.gather(step, return_exceptions=True)
                    await pieces.aclose()
                    why = "cancelled"
                    break
                piece = step.result()
                sender.send(pb_utils.InferenceResponse(output_tensors=self.write(ask, piece)))
                count += 1
        except StopAsyncIteration:
            why = "done"
        except Failure as failure:
            error = pb_utils.TritonError(str(failure), getattr(pb_utils.TritonError, failure.code))
            sender.send(pb_utils.InferenceResponse(error=error))
        except Exception as failure:
            error = pb_utils.TritonError(f"{type(failure).__name__}: {failure}")
            sender.send(pb_utils.InferenceResponse(error=error))
        log_event("end", id=number, why=why, tokens=count)
        sender.send(flags=_FINAL)

    def _seen(self, request):
        inputs = {}
        for item in self.config["input"]:
            tensor = pb_utils.get_input_tensor_by_name(request, item["name"])
            if tensor is not None:
                array = tensor.as_numpy()
                inputs[item["name"]] = [
                    str(array.dtype),
                    list(array.shape),
                    self.values(request, item["name"]),
                ]
        return {
            "model": self.name,
            "inputs": inputs,
            "parameters": json.loads(request.parameters() or "{}"),
            "request_id": request.request_id(),
            "correlation_id": request.correlation_id(),
        }


class _Whole:
    """Collects the responses of a model that is not decoupled, which sends only one response."""

    def __init__(self, request):
        self._request = request
        self._responses = []

    def is_cancelled(self):
        return self._request.is_cancelled()

    def send(self, response=None, flags=0):
        if response is not None:
            self._responses.append(response)

    def response(self, model):
        """Return the last response with the text of all responses."""
        if not self._responses:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
            )
        last = self._responses[-1]
        if last.has_error() or model.setting("accumulate"):
            return last
        name = next(iter(model.outputs))
        texts = [
            tensor.as_numpy().ravel()[0].decode()
            for response in self._responses
            for tensor in response.output_tensors()
            if tensor.name() == name
        ]
        others = [tensor for tensor in last.output_tensors() if tensor.name() != name]
        return pb_utils.InferenceResponse([model.tensor(name, ["".join(texts)]), *others])
