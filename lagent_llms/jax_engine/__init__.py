"""Inference engine for Llama-family checkpoints in plain JAX, with continuous batching."""

from ..core.token_events import TokenEvent, TokenLogprobs
from .config import ModelConfig
from .engine import Engine, Handle, check_dtype
from .function_engine import FunctionEngine
from .sampling import SamplingParams
from .worker import EngineStats

__all__ = [
    "Engine",
    "EngineStats",
    "FunctionEngine",
    "Handle",
    "ModelConfig",
    "SamplingParams",
    "TokenEvent",
    "TokenLogprobs",
    "check_dtype",
]
