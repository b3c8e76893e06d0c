"""Triton Inference Server: the client, and what a model's dialect is made of.

`register_dialect` adds a dialect; one for models with one request and one response stream subclasses
`OneModelDialect`.
"""

from .conversation import InferRequest, InferResponse
from .dialect import Dialect, Model
from .dialects.base import OneModelDialect, TextReader
from .dialects.registry import dialects, find_dialect, register_dialect

__all__ = [
    "Dialect",
    "InferRequest",
    "InferResponse",
    "Model",
    "OneModelDialect",
    "TextReader",
    "dialects",
    "find_dialect",
    "register_dialect",
]
