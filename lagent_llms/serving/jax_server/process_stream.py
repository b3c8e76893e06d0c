"""Compatibility with EasyDeL: what `JAXServer.process` returns, a loop's iterator or a pair's two parts.

EasyDeL's documents use ``for text, n in server.process(…)`` and ``text, n = server.process(…)``. Both ask the
returned object for an iterator, so only the caller's current instruction tells them apart. Only this file
reads bytecode, nothing else relies on that, and its unit test runs it on CPython 3.10 to 3.14. New code uses
`ProcessStream.result` or a loop, which work without it (ADR 40).
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from ...errors import StreamInterrupted

if TYPE_CHECKING:
    from ...core.streams import Stream

__all__ = ["ProcessStream"]

_UNPACK = dis.opmap["UNPACK_SEQUENCE"]


class ProcessStream(Iterator[tuple[str, int]]):
    """One answer as pairs of (text so far, tokens so far).

    ::

        for text, n_tokens in server.process("Once"): ...     # the answer as it grows
        text, n_tokens = server.process("Once").result()      # the whole answer
        text, n_tokens = server.process("Once")               # the same, for scripts written for EasyDeL

    Leaving the loop early stops the generation.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._last = ("", 0)

    def __iter__(self) -> Iterator[Any]:
        """The pairs; the two parts of the last pair where the caller assigns to a list of names."""
        return iter(self.result()) if _is_unpacked(sys._getframe(1)) else self

    def __next__(self) -> tuple[str, int]:
        _, text, n_tokens = next(self._stream)
        self._last = (text, n_tokens or 0)
        return self._last

    def result(self) -> tuple[str, int]:
        """Read the rest of the answer; return its whole text and number of tokens.

        Raises:
            StreamInterrupted: The stream was closed before its end.
        """
        while (step := next(self, None)) is not None:
            self._last = step
        if self._stream.completion is None:
            raise StreamInterrupted("the stream was closed before its end", partial=self._last[0])
        return self._last

    def close(self) -> None:
        """Stop the generation. Thread-safe."""
        self._stream.close()


def _is_unpacked(caller: FrameType) -> bool:
    """True if `caller` is at ``a, b = …``.

    `co_code` holds the original instructions, not those that the interpreter specializes or instruments, so
    this also holds in hot code and under a debugger or a coverage tool.
    """
    return caller.f_code.co_code[caller.f_lasti] == _UNPACK
