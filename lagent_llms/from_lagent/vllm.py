"""lagent's `VllmModel` over `VLLMPipeline`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..backends.vllm.pipeline import AsyncVLLMPipeline, VLLMCore, VLLMPipeline
from .transformers import DEFAULTS

__all__ = ["AsyncVllmModel", "VllmModel"]


class _VllmCore(VLLMCore):
    """A causal language model in this process, with the arguments of lagent's ``VllmModel``.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        tp: Number of GPUs for tensor parallelism.
        vllm_cfg: Further engine arguments of vLLM.
        **kwargs: Further arguments of `VLLMPipeline`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tp: int = 1,
        vllm_cfg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(path, tp=tp, engine_args=vllm_cfg, **{**DEFAULTS, **kwargs})


class VllmModel(_VllmCore, VLLMPipeline):
    """`VLLMPipeline` with the arguments of lagent's ``VllmModel``; see `_VllmCore`."""


class AsyncVllmModel(_VllmCore, AsyncVLLMPipeline):
    """Asynchronous `VllmModel`."""
