"""vLLM's backend for Triton. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ....core.request import Request
from ....schema import FinishReason, Piece, TokenLogprob, Usage
from ....structured.formats import kind_of, regex_of, schema_of
from ..conversation import InferResponse
from ..dialect import Model, unsupported
from ..inputs import RequestInputs
from ..text_delta import OutputStyle
from .base import OneModelDialect, TextReader, finish_reason_of

__all__ = ["DIALECT", "VLLM"]

#: Parameter of this library -> field of vLLM's SamplingParams.
_FIELDS = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
    "min_p": "min_p",
    "ignore_eos": "ignore_eos",
    "skip_special_tokens": "skip_special_tokens",
    "logprobs": "logprobs",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "min_new_tokens": "min_tokens",
    "logit_bias": "logit_bias",
}


class VLLM(OneModelDialect):
    """All sampling parameters in one JSON; token counts, finish reason and log-probabilities on request."""

    name = "vllm"
    needs = ("sampling_parameters",)

    def fill(self, request: Request, inputs: RequestInputs, model: Model) -> Collection[str]:
        """See `OneModelDialect.fill`."""
        params, options = request.params, request.options
        sampling: dict[str, Any] = {
            name: value
            for parameter, name in _FIELDS.items()
            if (value := getattr(params, parameter)) is not None and request.sends(parameter)
        }
        if request.sends("top_k"):
            sampling["top_k"] = params.top_k or -1
        if request.stop_words:
            # By default vLLM leaves the stop word out of the text, and the one that matched is unknown.
            sampling |= {"stop": list(request.stop_words), "include_stop_str_in_output": True}
        if options.adapter_name is not None:
            sampling["lora_name"] = options.adapter_name
        if params.response_format is not None:
            if (constraint := _structured_outputs(params.response_format)) is None:
                raise unsupported(self.name, model, "response_format", dict(params.response_format))
            sampling["structured_outputs"] = msgspec.json.encode(constraint).decode()
        inputs.put("sampling_parameters", msgspec.json.encode(sampling).decode())
        for name in ("finish_reason", "num_input_tokens", "num_output_tokens"):
            inputs.put(f"return_{name}", True)
        if params.logprobs is not None and not inputs.put("return_logprobs", True):
            raise unsupported(self.name, model, "logprobs", params.logprobs, "no input for it")
        return {*_FIELDS, "adapter_name", "response_format"}

    def reader(self, request: Request, model: Model) -> TextReader:
        """See `OneModelDialect.reader`."""
        echo = None if self.exclude not in model.config.inputs else False
        return _Reader(request, model, self.output, model.output_style.otherwise(cumulative=False, echo=echo))


def _structured_outputs(constraint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of vLLM's StructuredOutputsParams (0.12 and newer; an older vLLM refuses the request)."""
    match kind_of(constraint):
        case "json":
            return {"json_object": True}
        case "schema":
            return {"json": schema_of(constraint)}
        case "regex":
            return {"regex": regex_of(constraint)}
        case "choice":
            return {"choice": constraint["choice"]}
    return None


class _Reader(TextReader):
    """Adds token counts, finish reason and log-probabilities to the text."""

    def __init__(self, request: Request, model: Model, output: str, output_style: OutputStyle) -> None:
        super().__init__(request, model, output, output_style)
        config = model.config
        self._counts = "num_output_tokens" in config.outputs and "return_num_output_tokens" in config.inputs
        self._top = request.params.logprobs
        self._count = self._prompt_tokens = 0
        self._reason: FinishReason | None = None
        self._word = ""

    def feed(self, response: InferResponse) -> Piece | None:
        piece = super().feed(response)
        if reason := finish_reason_of(word := response.text("finish_reason")):
            self._reason, self._word = reason, "" if word == reason else word
        self.told_end = self._reason is not None
        if self._counts:
            self._count += sum(response.values("num_output_tokens"))
            if not self._prompt_tokens:
                self._prompt_tokens = sum(response.values("num_input_tokens"))
            if piece is not None:
                piece.n_tokens = self._count
        if self._top is not None and (rows := response.text("logprobs")):
            piece = piece or Piece(n_tokens=self._count if self._counts else None)
            piece.logprobs = tuple(self._logprob(row) for row in msgspec.json.decode(rows) or ())
            piece.token_ids = tuple(item.token_id for item in piece.logprobs if item.token_id is not None)
        return piece

    def finish(self) -> Piece:
        piece = super().finish()
        if self._counts:
            piece.n_tokens, piece.usage = self._count, Usage(self._prompt_tokens, self._count)
            piece.finish_reason = "length" if self._count >= self._max_new_tokens else "stop"
        piece.finish_reason = self._reason or piece.finish_reason
        piece.native_finish_reason = self._word
        return piece

    def _logprob(self, row: dict[str, Any]) -> TokenLogprob:
        """Read the log-probabilities at one token; the first is the sampled one, the others have ranks."""
        items = [(item["decoded_token"] or "", int(index), item["logprob"]) for index, item in row.items()]
        ranks = {int(index): item.get("rank") or len(row) for index, item in row.items()}
        best = sorted(items, key=lambda item: ranks[item[1]])
        return TokenLogprob(*items[0], tuple(best[: self._top]))


DIALECT = VLLM()
