"""Responses of gRPC's ModelInfer, decoded on demand. Pure: works on any message with the right fields."""

from __future__ import annotations

from typing import Any

from ...errors import ServerError
from .tensors import read_values

__all__ = ["GRPCResponse", "is_final"]

_FINAL = "triton_final_response"


class GRPCResponse:
    """A ModelInferResponse as `InferResponse`; only the outputs that are asked for are decoded.

    Args:
        message: The ModelInferResponse.
    """

    __slots__ = ("_message",)

    def __init__(self, message: Any) -> None:
        self._message = message

    def text(self, name: str) -> str:
        """See `InferResponse.text`."""
        _, data = self._output(name)
        return data[4 : 4 + int.from_bytes(data[:4], "little")].decode("utf-8", "replace")

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """See `InferResponse.values`."""
        datatype, data = self._output(name)
        return read_values(datatype, data, start, stop)

    def _output(self, name: str) -> tuple[str, bytes]:
        """Return datatype and raw data of an output; no data if the response has no such output."""
        message = self._message
        for index, output in enumerate(message.outputs):
            if output.name == name:
                if index >= len(message.raw_output_contents):
                    raise ServerError(f"the server sent no data for the output {name!r}")
                return output.datatype, message.raw_output_contents[index]
        return "BYTES", b""


def is_final(message: Any) -> bool:
    """Return whether the server marked this ModelInferResponse as the last one of its request."""
    return bool(_FINAL in message.parameters and message.parameters[_FINAL].bool_param)
