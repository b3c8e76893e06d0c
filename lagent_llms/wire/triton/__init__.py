"""The protocol of Triton Inference Server as language models are served with it. Pure: no I/O, no gRPC.

`tensors`, `config` and `inputs` are the protocol's nouns, `inference` the commands of one generation,
`dialect` what a dialect is and how one is found; then one file a dialect: `trtllm`, `llmapi`, `vllm`,
`lmdeploy`, `turbomind`.
"""

from .dialect import Dialect, Model, dialects, find_dialect, register_dialect
from .inference import InferRequest, InferResponse
from .one_model import OneModelDialect, TextReader

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
