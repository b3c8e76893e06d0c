"""TensorRT-LLM's llmapi model. Pure."""

from __future__ import annotations

from collections.abc import Collection

from ....core.request import Request
from ....schema import Piece
from ..conversation import InferResponse
from ..dialect import Model
from ..inputs import RequestInputs
from .base import OneModelDialect, TextReader, finish_reason_of
from .sampling import sampling

__all__ = ["DIALECT", "LLMAPI"]

_PREFIX = "sampling_param_"
_SAMPLING = {name: _PREFIX + name for name in ("temperature", "top_k", "top_p")}


class LLMAPI(OneModelDialect):
    """Inputs of sampling parameters have a prefix; finish and stop reason are returned on request."""

    name = "llmapi"
    needs = (f"{_PREFIX}max_tokens",)
    stream = "streaming"
    exclude = f"{_PREFIX}exclude_input_from_output"
    stops = f"{_PREFIX}stop"
    optional = {  # noqa: RUF012  (read-only)
        "min_new_tokens": (f"{_PREFIX}min_tokens",),
        **{
            name: (f"{_PREFIX}{name}",)
            for name in (
                *("repetition_penalty", "frequency_penalty", "presence_penalty", "seed", "min_p"),
                *("ignore_eos", "skip_special_tokens"),
            )
        },
    }

    def fill(self, request: Request, inputs: RequestInputs, model: Model) -> Collection[str]:
        """See `OneModelDialect.fill`."""
        inputs.put(f"{_PREFIX}max_tokens", request.params.max_new_tokens)
        inputs.update(sampling(request, model, self.name, _SAMPLING))
        inputs.put("return_finish_reason", True)
        inputs.put("return_stop_reason", True)  # the text does not contain the stop word
        return ()

    def reader(self, request: Request, model: Model) -> TextReader:
        """See `OneModelDialect.reader`."""
        return _Reader(request, model, self.output, model.output_style)


class _Reader(TextReader):
    """Reads finish and stop reason, where the model returns them."""

    _reason = _stop = ""

    def feed(self, response: InferResponse) -> Piece | None:
        self._stop = response.text("stop_reason") or self._stop
        self._reason = response.text("finish_reason") or self._reason
        self.told_end = finish_reason_of(self._reason) is not None
        return super().feed(response)

    def finish(self) -> Piece:
        piece = super().finish()
        if reason := finish_reason_of(self._reason):
            piece.finish_reason = reason
            piece.native_finish_reason = "" if self._reason == reason else self._reason
        piece.stop_word = self._stop if self._stop in self._stop_words else None
        return piece


DIALECT = LLMAPI()
