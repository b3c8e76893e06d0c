"""TensorRT-LLM's llmapi model."""

from .answers import Ask
from .model import Model


class TritonPythonModel(Model):
    def read(self, request):
        def sampling(name, default=None):
            return self.value(request, f"sampling_param_{name}", default)

        top_k = sampling("top_k", 0)
        params = {
            "max_new_tokens": sampling("max_tokens", 16),
            "temperature": 0 if top_k == 1 else sampling("temperature", 1.0),
            "top_k": top_k or None,
            "top_p": sampling("top_p", 1.0) or 1.0,
            "seed": None if sampling("seed") is None else int(sampling("seed")),
        }
        ask = Ask(
            self.value(request, "text_input"),
            params,
            stop=tuple(self.values(request, "sampling_param_stop")),
            with_stop=False,
            stream=self.value(request, "streaming", False),
        )
        ask.reasons = [
            name for name in ("finish_reason", "stop_reason") if self.value(request, f"return_{name}", False)
        ]
        return ask

    def write(self, ask, piece):
        tensors = [self.tensor("text_output", [piece.text])]
        reasons = {"finish_reason": piece.finish_reason, "stop_reason": piece.stop_word}
        return tensors + [self.tensor(name, [str(reasons[name])]) for name in ask.reasons]
