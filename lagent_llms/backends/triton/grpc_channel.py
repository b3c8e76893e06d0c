"""A gRPC channel to a Triton server: its settings (options, TLS, metadata) and the generated stub on it."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingDependency
from ...http.limits import DEFAULT_LIMITS
from ...http.secrets import Secrets
from .grpc_commands import ChannelState

try:
    import grpc
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
except ModuleNotFoundError as error:
    raise MissingDependency.of("tritonclient[grpc]", "triton") from error

__all__ = ["GRPCChannel", "GRPCSettings"]


@dataclass(frozen=True)
class GRPCSettings:
    """How to reach a server.

    Attributes:
        address: 'ip:port'.
        headers: Sent with every call, names in lower case.
        tls: Whether to use TLS.
        verify: A file of trusted certificates, None for the system's.
        certificate: Files of the client's own certificate (chain) and key, for servers that ask for one.
        server_name: The name that the server's certificate must have, None for that of `address`.
        keepalive: Seconds of silence after which the connection is tested, None for never.
        options: Further options of the channel; they override the defaults.
        max_response_bytes: Maximum size of a response.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: bool = False
    verify: str | os.PathLike[str] | None = None
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None
    server_name: str | None = None
    keepalive: float | None = None
    options: Mapping[str, int | str] = field(default_factory=dict)
    max_response_bytes: int = DEFAULT_LIMITS.response_bytes

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call.

        `triton_grpc_error`, which would add status codes to errors in streams, is never sent: tritonserver
        2.51 crashes when a model sends an error and then ends its answer (ADR 10).
        """
        return tuple((name.lower(), value) for name, value in self.headers.items())

    def channel_options(self, **more: int) -> list[tuple[str, int | str]]:
        """Return the options of a channel; `more` overrides the defaults, `options` overrides both."""
        from ... import __version__

        options: dict[str, int | str] = {
            "grpc.max_receive_message_length": min(self.max_response_bytes, 2**31 - 1),
            "grpc.max_send_message_length": -1,
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 2000,  # a restarted server is found soon
            "grpc.primary_user_agent": f"lagent_llms/{__version__}",
            **more,
        }
        if self.keepalive is not None:
            options["grpc.keepalive_time_ms"] = int(self.keepalive * 1000)
            options["grpc.keepalive_timeout_ms"] = 10_000
        if self.server_name is not None:
            options["grpc.ssl_target_name_override"] = self.server_name
        return [*(options | dict(self.options)).items()]

    def channel(self, module: Any, **more: int) -> Any:
        """Make a channel.

        Args:
            module: `grpc` or `grpc.aio`.
            **more: Further options.

        Raises:
            ConfigError: A certificate or key file cannot be read.
        """
        options = self.channel_options(**more)
        if not self.tls:
            return module.insecure_channel(self.address, options)
        chain, key = (None, None) if self.certificate is None else map(_read_file, self.certificate)
        roots = None if self.verify is None else _read_file(self.verify)
        credentials = grpc.ssl_channel_credentials(roots, key, chain)
        return module.secure_channel(self.address, credentials, options)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: cannot be read as a certificate or key: {error}") from error


class _SingleRequestChannel:
    """A channel as the generated stub sees it, where a stream of requests is a single request.

    ModelStreamInfer, the service's only bidirectional stream, carries one request in this library. gRPC's
    Python needs a thread or task to feed each stream of requests, none for a single one; on the wire both are
    the same.
    """

    def __init__(self, channel: Any) -> None:
        self.unary_unary, self.stream_stream = channel.unary_unary, channel.unary_stream


class GRPCChannel:
    """A channel and the generated stub on it, whose ModelStreamInfer takes one request, not an iterator.

    Args:
        settings: How to reach the server.
        module: `grpc` or `grpc.aio`.
        **options: Options of the channel.

    Attributes:
        state: What is known about it.
    """

    def __init__(self, settings: GRPCSettings, module: Any, **options: int) -> None:
        secrets = Secrets.of(*Secrets.in_headers(settings.headers))
        limit = settings.max_response_bytes
        self.state = ChannelState(settings.address, secrets=secrets, max_response_bytes=limit)
        self._channel = settings.channel(module, **options)
        self._stub = GRPCInferenceServiceStub(_SingleRequestChannel(self._channel))
        self._metadata = settings.metadata()

    def call(self, method: str, message: Any, timeout: float | None) -> Any:
        """Start a call with one response; return a future, in asyncio an awaitable. Both have `cancel()`."""
        start = getattr(self._stub, method)
        return getattr(start, "future", start)(message, timeout=timeout, metadata=self._metadata)

    def stream(self, message: Any, timeout: float | None = None) -> Any:
        """Start a ModelStreamInfer call, with a limit in seconds or none; return its responses."""
        return self._stub.ModelStreamInfer(message, timeout=timeout, metadata=self._metadata)


# A child hangs or crashes when its garbage collector finds gRPC's objects of its parent: they are exempt.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.freeze)
