"""Responses of gRPC's ModelInfer, decoded on demand. Pure: works on any message with the right fields."""

from __future__ import annotations

from typing import Any

from ...errors import ServerError
from .tensors import read_values

__all__ = ["GRPCResponse", "is_final"]

_FINAL = "triton_final_response"


class GRPCResponse:
    """A ModelInferResponse as `InferResponse`; outputs are decoded when they are read.

    Args:
        message: The ModelInferResponse.
    """

    __slots__ = ("_message",)

    def __init__(self, message: Any) -> None:
        self._message = message

    def text(self, name: str) -> str:
        """See `InferResponse.text`."""
        for index, output in enumerate(self._message.outputs):
            if output.name == name:
                data = self._data(index)
                return data[4 : 4 + int.from_bytes(data[:4], "little")].decode("utf-8", "replace")
        return ""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """See `InferResponse.values`."""
        for index, output in enumerate(self._message.outputs):
            if output.name == name:
                return read_values(output.datatype, self._data(index), start, stop)
        return []

    def _data(self, index: int) -> bytes:
        try:
            return self._message.raw_output_contents[index]  # type: ignore[no-any-return]
        except IndexError as error:
            raise ServerError(f"the server sent no data for output {index}") from error


def is_final(message: Any) -> bool:
    """Return whether the server marked this ModelInferResponse as the last one of its request."""
    return bool(_FINAL in message.parameters and message.parameters[_FINAL].bool_param)
