"""TensorRT-LLM's ensemble and BLS models (`ensemble`, `tensorrt_llm_bls`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ....core.request import Request
from ....structured.formats import kind_of, regex_of, schema_of
from ..dialect import Model, unsupported
from ..inputs import RequestInputs
from .base import OneModelDialect
from .sampling import sampling

__all__ = ["DIALECT", "TensorRTLLM"]


_NO_TOKEN = {"UINT32": 2**32 - 1, "UINT64": 2**64 - 1}


class TensorRTLLM(OneModelDialect):
    """One tensor for each parameter; the seed is `random_seed` until May 2025, `seed` after."""

    name = "trtllm"
    needs = ("max_tokens",)
    optional = {  # noqa: RUF012  (read-only)
        "repetition_penalty": ("repetition_penalty",),
        "seed": ("seed", "random_seed"),
        "min_p": ("min_p",),
        "frequency_penalty": ("frequency_penalty",),
        "presence_penalty": ("presence_penalty",),
        "min_new_tokens": ("min_tokens", "min_length"),
        "skip_special_tokens": ("skip_special_tokens",),
    }

    def fill(self, request: Request, inputs: RequestInputs, model: Model) -> Collection[str]:
        """See `OneModelDialect.fill`."""
        params, done = request.params, set()
        inputs.put("max_tokens", params.max_new_tokens)
        inputs.update(sampling(request, model, self.name))
        if (end := model.config.inputs.get("end_id")) is not None:
            if params.ignore_eos:  # no token id is the end token: the bits of -1
                inputs.put("end_id", _NO_TOKEN.get(end.datatype, -1))
                done.add("ignore_eos")
            elif not end.optional and model.tokenizer is not None:
                for token in model.tokenizer.special("<EOS>")[:1]:
                    inputs.put("end_id", token)
        if params.response_format is not None:
            self._constrain(params.response_format, inputs, model)
            done.add("response_format")
        return done

    def _constrain(self, constraint: Mapping[str, Any], inputs: RequestInputs, model: Model) -> None:
        kind = kind_of(constraint)
        has = inputs.has("guided_decoding_guide") and inputs.has("guided_decoding_guide_type")
        if not has or kind == "other":
            reason = "" if has else "it has no inputs guided_decoding_guide and guided_decoding_guide_type"
            raise unsupported(self.name, model, "response_format", dict(constraint), reason)
        if kind == "json":
            inputs.put("guided_decoding_guide_type", "json")
        elif kind == "schema":
            inputs.put("guided_decoding_guide_type", "json_schema")
            inputs.put("guided_decoding_guide", msgspec.json.encode(schema_of(constraint)).decode())
        else:
            inputs.put("guided_decoding_guide_type", "regex")
            inputs.put("guided_decoding_guide", regex_of(constraint))


DIALECT = TensorRTLLM()
