"""What `JAXServer.process` returns: pairs of (text so far, tokens so far), and the last of them at once."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ...core.streams import Stream
from ...errors import StreamInterrupted

__all__ = ["ProcessStream"]

_UNPACK = dis.opmap["UNPACK_SEQUENCE"]


class ProcessStream(Iterator[tuple[str, int]]):
    """One answer, in the two forms that EasyDeL's server has for it.

    ::

        for text, n_tokens in server.process("Once"): ...   # the answer as it grows
        text, n_tokens = server.process("Once")             # the whole answer; the same as .result()

    Leaving the loop early stops the generation.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._last = ("", 0)

    def __iter__(self) -> Iterator[Any]:
        """Steps for a loop; for an assignment to names, text and count."""
        return iter(self.result()) if _is_unpacked(sys._getframe(1)) else self

    def __next__(self) -> tuple[str, int]:
        _, text, n_tokens = next(self._stream)
        self._last = (text, n_tokens or 0)
        return self._last

    def result(self) -> tuple[str, int]:
        """The whole answer and its number of tokens; what was not read yet is read.

        Raises:
            StreamInterrupted: It was closed before its end.
        """
        while (step := next(self, None)) is not None:
            self._last = step
        if self._stream.completion is None:
            raise StreamInterrupted("closed before its answer was complete", partial=self._last[0])
        return self._last

    def close(self) -> None:
        """Stop the generation; may be called from any thread."""
        self._stream.close()


def _is_unpacked(caller: FrameType) -> bool:
    """Whether `caller` is at ``a, b = …``: iteration itself cannot tell that from a loop."""
    return caller.f_code.co_code[caller.f_lasti] == _UNPACK
