"""What `TritonClient` and its asynchronous twin share: what a user says about server and model. No I/O."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from ... import validators
from ...core.llm import LLMCore
from ...core.request import Request
from ...errors import (
    ConfigError,
    InvalidArgument,
    LLMError,
    MissingDependency,
    NotFound,
    TimeoutExceeded,
    UnsupportedParameter,
)
from ...http.messages import check_headers
from ...http.retry import RetryPolicy
from ...params import Timeout
from .conversation import Index
from .dialects.registry import dialect_named
from .discovery import Finder, Located, Wanted
from .tokenizer import LocalTokens

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...params import CallKwargs
    from ...templates import TemplateSpec
    from .grpc_messages import GRPCSettings

__all__ = ["Server", "TritonCore"]

_LOOK_EVERY = 0.1
_METADATA_NAME = re.compile(r"[0-9A-Za-z_.-]+(?<!-[Bb]in)")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_SCHEMES = ("grpc", "grpcs", "http", "https")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and how it is spoken to.

    Attributes:
        scheme: 'grpc', 'grpcs', 'http' or 'https'.
        address: 'ip:port'.
        headers: Sent with every request.
        verify: A file of trusted certificates, True for the system's, False for any (HTTP only).
        certificate: The client's own certificate and key.
        server_name: The name the server's certificate must have.
        keepalive: Seconds of silence after which a gRPC connection is tested.
        options: Further options of the gRPC channel.
    """

    scheme: str
    address: str
    headers: Mapping[str, str]
    verify: bool | str | os.PathLike[str]
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None
    server_name: str | None
    keepalive: float | None
    options: Mapping[str, int | str]

    @property
    def http(self) -> bool:
        """Whether it is spoken to over HTTP."""
        return self.scheme.startswith("http")

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://{self.address}"


class TritonCore(LLMCore):
    """A model behind Triton Inference Server.

    Args:
        tritonserver_addr: 'ip:port' of the server's gRPC service (seed 003); 'grpcs://ip:port' with TLS. An
            address that begins with 'http://' or 'https://' is that of its HTTP service.
        model_name: The model's name; None takes the only one that can be meant. On a server with lmdeploy's
            three turbomind models any other name means those.
        meta_template: See `LLMCore`.
        session_len: See `LLMCore`; see `tokenizer` for how it is counted.
        log_level: Level of the logger 'lagent_llms.triton'; None leaves it as it is.
        dialect: How the model is spoken to ('trtllm', 'llmapi', 'vllm', 'lmdeploy', 'turbomind', or one that
            was registered); None finds it from the model's config.
        tokenizer: Counts tokens at this side: a tokenizer.json, its directory, or an object with ``encode``
            (turbomind needs its ``decode(ids, skip_special_tokens=…)`` too).
            Without it the server's model `preprocessing` is asked, where there is one. Needed only to hold
            `session_len` for prompts that may not fit, for `tokenize`, and to count answers of servers that
            do not.
        cumulative: Whether every response holds the whole text so far; None finds out.
        echo: Whether the prompt stands before the answer, though it was asked to be left out; None finds out.
        api_key: Sent as a bearer token.
        headers: Sent with every request.
        verify: A file of trusted certificates; True takes the system's, False any (HTTP only).
        certificate: The client's own certificate and key, two files.
        server_name: The name the server's certificate must have, None for that of the address.
        keepalive: Seconds of silence after which a gRPC connection is tested; None never does. A server
            closes connections that are tested more often than it allows (every 300 s while it says nothing).
        channel_options: Further options of the gRPC channel ('grpc.…').
        max_retries: How often a request is sent again when no connection could be made or the server is too
            busy; never once the answer has begun.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.
    """

    unsupported_parameters: ClassVar[frozenset[str]] = frozenset({"tool_choice"})
    opt_in_parameters: ClassVar[frozenset[str]] = frozenset({"priority", "parameters"})

    def __init__(
        self,
        tritonserver_addr: str,
        model_name: str | None = None,
        *,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        log_level: int | str | None = None,
        dialect: str | None = None,
        tokenizer: Any = None,
        cumulative: bool | None = None,
        echo: bool | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | os.PathLike[str] = True,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        server_name: str | None = None,
        keepalive: float | None = None,
        channel_options: Mapping[str, int | str] | None = None,
        max_retries: int = 2,
        max_concurrency: int = 64,
        **kwargs: Unpack[CallKwargs],
    ) -> None:
        super().__init__(
            meta_template=meta_template, session_len=session_len, max_concurrency=max_concurrency, **kwargs
        )
        validators.optional_name("model_name", model_name)
        validators.integer("an integer of 0 or more", 0)("max_retries", max_retries)
        if dialect is not None:
            dialect_named(dialect)
        scheme, address = _address(tritonserver_addr)
        if verify is False and scheme == "grpcs":
            raise InvalidArgument(
                "verify=False: gRPC cannot trust any certificate; name a file of trusted ones",
                argument="verify",
            )
        authorization = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.model_name = model_name
        self.server = Server(
            scheme,
            address,
            _headers({**authorization, **(headers or {})}, text_only=not scheme.startswith("http")),
            verify,
            certificate,
            server_name,
            keepalive,
            channel_options or {},
        )
        self.retry = RetryPolicy(max_retries)
        tokens = None if tokenizer is None else LocalTokens(tokenizer)
        bos = self.template.bos if self.template is not None else ""
        self.finder = Finder(Wanted(model_name, dialect, bos, session_len, tokens, cumulative, echo))
        if log_level is not None:
            try:
                logging.getLogger("lagent_llms.triton").setLevel(log_level)
            except (ValueError, TypeError) as error:
                raise InvalidArgument(f"log_level={log_level!r}: {error}", argument="log_level") from error
        if not self.server.http and any(map(_missing, ("tritonclient", "grpc"))):
            raise MissingDependency.of("tritonclient[grpc]", "triton")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.url!r}, {self.model_name!r})"

    def grpc_settings(self) -> GRPCSettings:
        """How the gRPC drivers reach the server."""
        from .grpc_messages import GRPCSettings

        server = self.server
        return GRPCSettings(
            server.address,
            server.headers,
            tls=server.scheme == "grpcs",
            verify=None if isinstance(server.verify, bool) else server.verify,
            certificate=server.certificate,
            server_name=server.server_name,
            keepalive=server.keepalive,
            options=server.options,
        )

    def conversation(self, request: Request) -> Located:
        """What is to be done for `request`."""
        return Located(self.finder, request)

    def index(self) -> Generator[Index, Any, Sequence[Mapping[str, Any]]]:
        """What the server's repository holds."""
        entries: Sequence[Mapping[str, Any]] = yield Index()
        return entries

    def ready_models(self, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        """Names of those that can be asked."""
        return sorted({str(entry["name"]) for entry in entries if entry.get("state") == "READY"})

    def counted(self, ids: list[int] | None) -> list[int]:
        """`ids`, which must be there.

        Raises:
            UnsupportedParameter: Nobody could count.
        """
        if ids is None:
            raise UnsupportedParameter(
                f"{self!r}: the server cannot count tokens, and session_len (or tokenize) needs that: "
                "name the model's tokenizer with tokenizer=…",
                parameter="session_len",
                backend=type(self).__name__,
            )
        return ids

    def within(self, end: float) -> Timeout:
        """Limits of one look whether the server is ready."""
        left = max(0.05, end - time.monotonic())
        return Timeout(connect=left, first_token=left, idle=left)

    def pause(self, error: LLMError, end: float, timeout: float) -> float:
        """Seconds until the next look whether the server is ready, after `error`.

        Raises:
            LLMError: It will not help to look again, or time is up.
        """
        if isinstance(error, (NotFound, ConfigError)):
            raise error
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutExceeded(
                f"{self!r} was not ready within {timeout:g} s: {error}", phase="total", seconds=timeout
            ) from error
        return min(_LOOK_EVERY, left)


def _missing(package: str) -> bool:
    from importlib.util import find_spec  # here, so that the import stays light

    return find_spec(package) is None


def _headers(given: Mapping[str, str], *, text_only: bool) -> dict[str, str]:
    """`given`, checked; gRPC takes printable ASCII and fewer names than HTTP."""
    headers = check_headers(given)
    for name, value in headers.items() if text_only else ():
        if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidArgument(  # the value is not shown: it may be secret
                f"headers: {name!r} cannot be sent over gRPC, which takes letters, digits, '-', '_' and '.' "
                "(without '-bin') as a name, printable ASCII as its value",
                argument="headers",
            )
    return headers


def _address(value: object) -> tuple[str, str]:
    """Scheme and 'ip:port'."""
    refusal = InvalidArgument(
        f"tritonserver_addr={value!r}: allowed is 'ip:port' of the gRPC service, 'grpcs://ip:port' with TLS, "
        "or 'http://ip:port' of the HTTP service",
        argument="tritonserver_addr",
    )
    if not isinstance(value, str) or not value.strip():
        raise refusal
    text = value.strip().rstrip("/")
    try:
        parts = urlsplit(text if "://" in text else f"grpc://{text}")
        bad = parts.scheme not in _SCHEMES or not parts.hostname or not parts.port
    except ValueError:
        raise refusal from None
    if bad or parts.path or parts.query or parts.username:
        raise refusal
    return parts.scheme, parts.netloc
