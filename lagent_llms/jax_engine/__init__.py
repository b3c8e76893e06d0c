"""A decoder for Llama-family checkpoints in plain JAX that serves many requests at once."""

from .config import ModelConfig
from .engine import Engine, Handle
from .runner import TokenLogprobs
from .sampling import SamplingParams
from .worker import EngineStats, TokenEvent

__all__ = ["Engine", "EngineStats", "Handle", "ModelConfig", "SamplingParams", "TokenEvent", "TokenLogprobs"]
