"""What `JAXServer.process` returns: pairs of (text so far, tokens so far), and the last of them at once."""

from __future__ import annotations

from collections.abc import Iterator

from ..streams import Stream

__all__ = ["ProcessStream"]


class ProcessStream(Iterator[tuple[str, int]]):
    """Iterate over it for (text so far, tokens so far), or take the last pair with `result`.

    A plain iterator cannot tell ``for text, n in …`` from ``text, n = …``; the second form is written
    ``text, n = server.process(…).result()``. Leaving it early stops the generation.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._last = ("", 0)

    def __next__(self) -> tuple[str, int]:
        _, text, n_tokens = next(self._stream)
        self._last = (text, n_tokens or 0)
        return self._last

    def result(self) -> tuple[str, int]:
        """The whole answer and its number of tokens; what was not read yet is read."""
        for _ in self:
            pass
        return self._last

    def close(self) -> None:
        """Stop the generation."""
        self._stream.close()
