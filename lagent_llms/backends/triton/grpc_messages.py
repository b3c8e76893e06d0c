"""Commands as protobuf messages of Triton's gRPC service, and what its responses and errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2

from .conversation import GetModelConfig, Infer, InferRequest, UnaryCommand
from .grpc_commands import CallFailure, ServerLive
from .grpc_response import GRPCResponse

__all__ = ["call_failure", "infer_message", "unary_method"]


def unary_method(command: UnaryCommand | ServerLive) -> tuple[str, Any, Callable[[Any], object]]:
    """Return the method that executes `command`: name in the stub, request message, response reader."""
    if isinstance(command, Infer):
        return "ModelInfer", infer_message(command.request), GRPCResponse
    if isinstance(command, ServerLive):
        return "ServerLive", service_pb2.ServerLiveRequest(), _is_live
    if isinstance(command, GetModelConfig):
        return "ModelConfig", service_pb2.ModelConfigRequest(name=command.model), _config_json
    return "RepositoryIndex", service_pb2.RepositoryIndexRequest(), _index_json


def infer_message(request: InferRequest, *, streamed: bool = False) -> Any:
    """Return the ModelInferRequest of a request; a streamed one asks the server to mark the last response."""
    message = service_pb2.ModelInferRequest(model_name=request.model, id=request.id)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(tensor.raw())
    for name, value in request.request_parameters.items():
        _set_parameter(message.parameters[name], name, value)
    if streamed:
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


def _set_parameter(parameter: Any, name: str, value: bool | int | float | str) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if name == "priority":
            parameter.uint64_param = value
        else:
            parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def call_failure(error: Any, *, expired: bool = False) -> CallFailure:
    """Return the failure for an error that a call of `grpc` or `grpc.aio` has raised."""
    if isinstance(error, grpc.RpcError):
        code, details = error.code().name, error.details() or ""
        if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
            # gRPC's own limit for messages has the code of an overloaded server: it is not tried again.
            return CallFailure("OUT_OF_RANGE", f"{details}; limits.response_bytes allows more", expired)
        return CallFailure(code, details, expired)
    return CallFailure(None, str(error) or "the call was cancelled", expired)


def _is_live(message: Any) -> bool:
    return bool(message.live)


def _config_json(message: Any) -> Any:
    """Return a model's config as the HTTP service sends it."""
    return MessageToDict(message.config, preserving_proto_field_name=True)


def _index_json(message: Any) -> list[dict[str, str]]:
    """Return the repository's index as the HTTP service sends it."""
    return [{"name": entry.name, "state": entry.state, "reason": entry.reason} for entry in message.models]
