"""All types, in the module where lorax-client has them."""

from __future__ import annotations

from .request_types import (
    ADAPTER_SOURCES,
    MAJORITY_SIGN_METHODS,
    MERGE_STRATEGIES,
    BatchRequest,
    MergedAdapters,
    Parameters,
    Request,
)
from .response_format import ResponseFormat, ResponseFormatType
from .response_types import (
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
