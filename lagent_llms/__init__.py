"""The LLM layer of an agent: one base class, meta-template prompt assembly, backends that behave the same.

Every public name is imported from here; nothing heavy is loaded until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    AuthenticationError,
    BatchError,
    ConfigError,
    ConnectError,
    ContextLengthExceeded,
    InvalidArgument,
    InvalidOutput,
    LLMError,
    MissingDependency,
    ModelLoadError,
    ModelStatusCode,
    NotFound,
    RateLimited,
    ServerError,
    ServerStartError,
    SessionBusy,
    SessionClosed,
    SessionError,
    SessionOutOfLimit,
    StreamInterrupted,
    TemplateError,
    TimeoutExceeded,
    TransportError,
    UnknownParameter,
    UnsupportedParameter,
)
from .params import CallOptions, GenerationParams, Timeout
from .retry import RetryPolicy
from .schema import Completion, Piece, StreamChunk, TokenLogprob, ToolCall, Usage

if TYPE_CHECKING:
    from .backends.jax.client import AsyncJAXClient, JAXClient
    from .backends.jax.pipeline import AsyncJAXPipeline, JAXPipeline
    from .backends.lmdeploy.client import AsyncLMDeployClient, LMDeployClient
    from .backends.lmdeploy.pipeline import AsyncLMDeployPipeline, LMDeployPipeline
    from .backends.lmdeploy.server import AsyncLMDeployServer, LMDeployServer
    from .backends.lorax.backend import AsyncLoRAX, LoRAX
    from .backends.openai.client import AsyncOpenAIClient, OpenAIClient
    from .backends.routing.llms import AsyncFallbackLLM, AsyncRouterLLM, FallbackLLM, RouterLLM
    from .backends.transformers.pipeline import AsyncHFTransformers, HFTransformers
    from .backends.triton.client import AsyncTritonClient, TritonClient
    from .backends.vllm.pipeline import AsyncVLLMPipeline, VLLMPipeline
    from .batch.drivers import AsyncBatchRun, BatchRun
    from .batch.results import BatchResult, BatchSummary
    from .batch.run import run_batch
    from .config import create_llm
    from .core.base import AsyncBaseLLM, BaseLLM
    from .core.session import AsyncSession, Session
    from .core.usage import UsageTotals
    from .serving.jax_server.config import JAXServerConfig
    from .serving.jax_server.server import JAXServer
    from .store.cache import AnswerCache
    from .store.journal import Journal
    from .templates import INTERNLM2_META, APITemplateParser, LMTemplateParser
    from .testing.replay import AsyncReplayLLM, ReplayLLM

__version__ = "0.1.0"

# Where the names that cost something to import live.
_HOMES = {
    "backends.jax.client": ("AsyncJAXClient", "JAXClient"),
    "backends.jax.pipeline": ("AsyncJAXPipeline", "JAXPipeline"),
    "backends.lmdeploy.client": ("AsyncLMDeployClient", "LMDeployClient"),
    "backends.lmdeploy.pipeline": ("AsyncLMDeployPipeline", "LMDeployPipeline"),
    "backends.lmdeploy.server": ("AsyncLMDeployServer", "LMDeployServer"),
    "backends.lorax.backend": ("AsyncLoRAX", "LoRAX"),
    "backends.openai.client": ("AsyncOpenAIClient", "OpenAIClient"),
    "backends.routing.llms": ("AsyncFallbackLLM", "AsyncRouterLLM", "FallbackLLM", "RouterLLM"),
    "backends.transformers.pipeline": ("AsyncHFTransformers", "HFTransformers"),
    "backends.triton.client": ("AsyncTritonClient", "TritonClient"),
    "backends.vllm.pipeline": ("AsyncVLLMPipeline", "VLLMPipeline"),
    "batch.drivers": ("AsyncBatchRun", "BatchRun"),
    "batch.results": ("BatchResult", "BatchSummary"),
    "batch.run": ("run_batch",),
    "config": ("create_llm",),
    "core.base": ("AsyncBaseLLM", "BaseLLM"),
    "core.session": ("AsyncSession", "Session"),
    "core.usage": ("UsageTotals",),
    "serving.jax_server.config": ("JAXServerConfig",),
    "serving.jax_server.server": ("JAXServer",),
    "store.cache": ("AnswerCache",),
    "store.journal": ("Journal",),
    "templates": ("INTERNLM2_META", "APITemplateParser", "LMTemplateParser"),
    "testing.replay": ("AsyncReplayLLM", "ReplayLLM"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "INTERNLM2_META",
    "APITemplateParser",
    "AnswerCache",
    "AsyncBaseLLM",
    "AsyncBatchRun",
    "AsyncFallbackLLM",
    "AsyncHFTransformers",
    "AsyncJAXClient",
    "AsyncJAXPipeline",
    "AsyncLMDeployClient",
    "AsyncLMDeployPipeline",
    "AsyncLMDeployServer",
    "AsyncLoRAX",
    "AsyncOpenAIClient",
    "AsyncReplayLLM",
    "AsyncRouterLLM",
    "AsyncSession",
    "AsyncTritonClient",
    "AsyncVLLMPipeline",
    "AuthenticationError",
    "BaseLLM",
    "BatchError",
    "BatchResult",
    "BatchRun",
    "BatchSummary",
    "CallOptions",
    "Completion",
    "ConfigError",
    "ConnectError",
    "ContextLengthExceeded",
    "FallbackLLM",
    "GenerationParams",
    "HFTransformers",
    "InvalidArgument",
    "InvalidOutput",
    "JAXClient",
    "JAXPipeline",
    "JAXServer",
    "JAXServerConfig",
    "Journal",
    "LLMError",
    "LMDeployClient",
    "LMDeployPipeline",
    "LMDeployServer",
    "LMTemplateParser",
    "LoRAX",
    "MissingDependency",
    "ModelLoadError",
    "ModelStatusCode",
    "NotFound",
    "OpenAIClient",
    "Piece",
    "RateLimited",
    "ReplayLLM",
    "RetryPolicy",
    "RouterLLM",
    "ServerError",
    "ServerStartError",
    "Session",
    "SessionBusy",
    "SessionClosed",
    "SessionError",
    "SessionOutOfLimit",
    "StreamChunk",
    "StreamInterrupted",
    "TemplateError",
    "Timeout",
    "TimeoutExceeded",
    "TokenLogprob",
    "ToolCall",
    "TransportError",
    "TritonClient",
    "UnknownParameter",
    "UnsupportedParameter",
    "Usage",
    "UsageTotals",
    "VLLMPipeline",
    "create_llm",
    "run_batch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        from .from_lagent import COUNTERPARTS, counterpart

        if name in COUNTERPARTS:
            return counterpart(name, stacklevel=3)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
