"""The models before and after turbomind: text to ids, ids to text."""

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.tokenizer import Tokenizer

from .model import Tensors, pb_utils


class _Plain(Tensors):
    def initialize(self, args):
        super().initialize(args)
        self.tokenizer = Tokenizer(EMBEDDED_MODEL, ModelConfig.from_directory(EMBEDDED_MODEL))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            return pb_utils.InferenceResponse(output_tensors=self.tensors(request))
        except Exception as failure:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"{type(failure).__name__}: {failure}")
            )


class Preprocessing(_Plain):
    def tensors(self, request):
        text = self.value(request, "QUERY")
        if text in ("<BOS>", "<EOS>"):
            ids = [self.tokenizer.bos_id] if text == "<BOS>" else sorted(self.tokenizer.eos_ids)[:1]
        else:
            ids = self.tokenizer.encode(text, add_bos=True)
        return [self.tensor("INPUT_ID", ids), self.tensor("REQUEST_INPUT_LEN", [len(ids)])]


class Postprocessing(_Plain):
    def tensors(self, request):
        start = self.value(request, "sequence_length")
        ids = self.values(request, "TOKENS_BATCH")[start:]
        skip = bool(self.value(request, "skip_special_tokens"))
        return [self.tensor("OUTPUT", [self.tokenizer.decode(ids, skip_special_tokens=skip)], (1,))]
