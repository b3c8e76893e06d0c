"""The python backend of lmdeploy 0.4 to 0.5.1 (`lmdeploy_model`). Pure."""

from __future__ import annotations

from collections.abc import Collection

from ....core.request import Request
from ....protocols.special_tokens import special_words
from ..dialect import Model
from ..inputs import RequestInputs
from .base import OneModelDialect, TextReader
from .sampling import sampling

__all__ = ["DIALECT", "LMDeployPython"]


class LMDeployPython(OneModelDialect):
    """Own input names, four required inputs; responses hold new text only, without the prompt."""

    name = "lmdeploy"
    prompt = "prompt"
    output = "response"
    needs = ("max_tokens", "ignore_eos", "stream")
    stops = ""
    optional = {  # noqa: RUF012  (read-only)
        "repetition_penalty": ("repetition_penalty",),
        "ignore_eos": ("ignore_eos",),
        "skip_special_tokens": ("skip_special_tokens",),
    }

    def fill(self, request: Request, inputs: RequestInputs, model: Model) -> Collection[str]:
        """See `OneModelDialect.fill`."""
        params = request.params
        inputs.put("max_tokens", params.max_new_tokens)
        inputs.update(sampling(request, model, self.name))
        # The model supports single tokens only; the client looks for all stop words.
        words = () if params.ignore_eos else special_words(request.stop_words)
        if words:
            inputs.put("stop_words", *words)
        return ()

    def reader(self, request: Request, model: Model) -> TextReader:
        """See `OneModelDialect.reader`."""
        return TextReader(
            request, model, self.output, model.output_style.otherwise(cumulative=False, echo=False)
        )


DIALECT = LMDeployPython()
