"""What both gRPC drivers share: addresses and channels, messages in and out, calls of the service."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingDependency, StreamInterrupted
from .conversation import Ask, Describe, Index, InferRequest
from .tensors import read_values

try:
    import grpc
    import grpc.experimental
    from google.protobuf.json_format import MessageToDict
    from tritonclient.grpc import service_pb2 as pb
except ModuleNotFoundError as error:
    raise MissingDependency.of("tritonclient[grpc]", "triton") from error

__all__ = [
    "FAREWELL",
    "LAST_FAREWELLS",
    "LIVE",
    "LIVENESS_TIMEOUT",
    "GRPCSettings",
    "Question",
    "Response",
    "closed_early",
    "grpc",
    "is_ambiguous_status",
    "is_final",
    "method",
    "pb",
    "question",
    "request_message",
]

_SERVICE = "/inference.GRPCInferenceService/"
_FINAL = "triton_final_response"


@dataclass(frozen=True)
class GRPCSettings:
    """How to reach a server.

    Attributes:
        address: 'ip:port'.
        headers: Sent with every call, names in lower case.
        tls: Whether to speak TLS.
        verify: A file of trusted certificates, None for the system's.
        certificate: The client's own certificate (chain) and key, two files, for servers that ask for one.
        server_name: The name the server's certificate must have, None for that of `address`.
        keepalive: Seconds of silence after which the connection is tested, None for never.
        options: Further options of the channel, over ours.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: bool = False
    verify: str | os.PathLike[str] | None = None
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None
    server_name: str | None = None
    keepalive: float | None = None
    options: Mapping[str, int | str] = field(default_factory=dict)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of every call.

        Never `triton_grpc_error`, which would give errors in streams their code: a server that is asked for
        that crashes when a model tells an error and then ends its answer, as most do.
        """
        return tuple((name.lower(), value) for name, value in self.headers.items())

    def channel_options(self, **more: int) -> list[tuple[str, int | str]]:
        """Options of a channel."""
        from ... import __version__

        options: dict[str, int | str] = {
            "grpc.max_receive_message_length": -1,
            "grpc.max_send_message_length": -1,
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 2000,  # a server that comes back is found soon
            "grpc.primary_user_agent": f"lagent_llms/{__version__}",
            **more,
        }
        if self.keepalive is not None:
            options["grpc.keepalive_time_ms"] = int(self.keepalive * 1000)
            options["grpc.keepalive_timeout_ms"] = 10_000
        if self.server_name is not None:
            options["grpc.ssl_target_name_override"] = self.server_name
        return [*(options | dict(self.options)).items()]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Of the channel, None for one in the clear.

        Raises:
            ConfigError: A file cannot be read.
        """
        if not self.tls:
            return None
        chain, key = (None, None) if self.certificate is None else map(_file, self.certificate)
        roots = None if self.verify is None else _file(self.verify)
        return grpc.ssl_channel_credentials(roots, key, chain)


def _file(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: cannot be read as a certificate or key: {error}") from error


#: Seconds a server has to say that it is there, after a status that leaves it open.
LIVENESS_TIMEOUT = 0.5
#: Seconds a request to stop a generation may take; so long its session waits, lest it stop the next turn.
FAREWELL = 60.0
#: Seconds a channel that is closed waits for such requests.
LAST_FAREWELLS = 5.0


def is_ambiguous_status(code: grpc.StatusCode) -> bool:
    """Whether a call that ended with `code` may never have met a server of Triton's."""
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)


def closed_early() -> StreamInterrupted:
    """The error of who still reads a call that somebody closed."""
    return StreamInterrupted("the call was closed before its answer was complete")


@dataclass(frozen=True, slots=True)
class Question:
    """A command as a call that has one response.

    Attributes:
        method: Which.
        message: What is sent.
        read: What the response means.
        connects: Nothing of the caller's is asked: the server has the time of a connection for it.
    """

    method: str
    message: Any
    read: Callable[[Any], object]
    connects: bool = True


def question(command: Ask | Describe | Index) -> Question:
    """The call that carries out `command`."""
    if isinstance(command, Ask):
        return Question("ModelInfer", request_message(command.request), Response, connects=False)
    if isinstance(command, Describe):
        return Question("ModelConfig", pb.ModelConfigRequest(name=command.model), config_json)
    return Question("RepositoryIndex", pb.RepositoryIndexRequest(), index_json)


#: Whether the server is there.
LIVE = Question("ServerLive", pb.ServerLiveRequest(), bool)


def method(name: str) -> tuple[str, Any, Any]:
    """Path, request serializer and response deserializer of a method of Triton's service."""
    request, response = _METHODS[name]
    return _SERVICE + name, request.SerializeToString, response.FromString


_METHODS: Mapping[str, Sequence[Any]] = {
    "ServerLive": (pb.ServerLiveRequest, pb.ServerLiveResponse),
    "ModelConfig": (pb.ModelConfigRequest, pb.ModelConfigResponse),
    "RepositoryIndex": (pb.RepositoryIndexRequest, pb.RepositoryIndexResponse),
    "ModelInfer": (pb.ModelInferRequest, pb.ModelInferResponse),
    "ModelStreamInfer": (pb.ModelInferRequest, pb.ModelStreamInferResponse),
}


def request_message(request: InferRequest, *, streamed: bool = False) -> pb.ModelInferRequest:
    """The message of a request; a streamed one asks to be told of the last response."""
    message = pb.ModelInferRequest(model_name=request.model, id=request.id)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(tensor.raw())
    for name, value in request.parameters.items():
        _set(message.parameters[name], name, value)
    if streamed:
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


def _set(parameter: Any, name: str, value: bool | int | float | str) -> None:
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


class Response:
    """A response as it came, see `InferResponse`: only what is asked for is decoded."""

    __slots__ = ("_message",)

    def __init__(self, message: pb.ModelInferResponse) -> None:
        self._message = message

    def text(self, name: str) -> str:
        """See `InferResponse.text`."""
        message = self._message
        for index, output in enumerate(message.outputs):
            if output.name == name:
                data: bytes = message.raw_output_contents[index]
                return data[4 : 4 + int.from_bytes(data[:4], "little")].decode("utf-8", "replace")
        return ""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """See `InferResponse.values`."""
        message = self._message
        for index, output in enumerate(message.outputs):
            if output.name == name:
                return read_values(output.datatype, message.raw_output_contents[index], start, stop)
        return []


def is_final(message: pb.ModelInferResponse) -> bool:
    """Whether the server said that this response is the last one."""
    return bool(_FINAL in message.parameters and message.parameters[_FINAL].bool_param)


def config_json(message: pb.ModelConfigResponse) -> Any:
    """A model's config, as HTTP tells it."""
    return MessageToDict(message.config, preserving_proto_field_name=True)


def index_json(message: pb.RepositoryIndexResponse) -> list[dict[str, str]]:
    """What the repository holds, as HTTP tells it."""
    return [{"name": entry.name, "state": entry.state, "reason": entry.reason} for entry in message.models]
