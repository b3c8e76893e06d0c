"""A decoder for Llama-family checkpoints in plain JAX that serves many requests at once."""

from .engine import Engine, Handle
from .runner import TokenLogprobs
from .sampling import SamplingParams
from .worker import EngineStats, TokenEvent

__all__ = ["Engine", "EngineStats", "Handle", "SamplingParams", "TokenEvent", "TokenLogprobs"]
