"""All types, under the name of the module that lorax-client has them in."""

from __future__ import annotations

from .answers import (
    AlternativeToken,
    BestOfSequence,
    ClassifyResponse,
    DeployedModel,
    Details,
    EmbedResponse,
    Entity,
    FinishReason,
    Info,
    InputToken,
    Response,
    ResponseHeaders,
    SimpleToken,
    StreamDetails,
    StreamResponse,
    Token,
)
from .parameters import (
    ADAPTER_SOURCES,
    MAJORITY_SIGN_METHODS,
    MERGE_STRATEGIES,
    BatchRequest,
    MergedAdapters,
    Parameters,
    Request,
)
from .response_format import ResponseFormat, ResponseFormatType

__all__ = [
    "ADAPTER_SOURCES",
    "MAJORITY_SIGN_METHODS",
    "MERGE_STRATEGIES",
    "AlternativeToken",
    "BatchRequest",
    "BestOfSequence",
    "ClassifyResponse",
    "DeployedModel",
    "Details",
    "EmbedResponse",
    "Entity",
    "FinishReason",
    "Info",
    "InputToken",
    "MergedAdapters",
    "Parameters",
    "Request",
    "Response",
    "ResponseFormat",
    "ResponseFormatType",
    "ResponseHeaders",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "Token",
]
