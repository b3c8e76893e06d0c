"""The python backend that lmdeploy 0.4 to 0.5.1 brought: `lmdeploy_model`."""

from .answers import Ask
from .model import Model


class TritonPythonModel(Model):
    def read(self, request):
        for name in ("prompt", "max_tokens", "ignore_eos", "stream"):
            if not self.values(request, name):
                raise ValueError(f"{name} is missing")
        top_k = self.value(request, "top_k", 50)
        params = {
            "max_new_tokens": self.value(request, "max_tokens"),
            "ignore_eos": self.value(request, "ignore_eos"),
            "temperature": 0 if top_k == 1 else self.value(request, "temperature", 0.8),
            "top_p": self.value(request, "top_p", 1.0),
            "top_k": top_k or None,
            "repetition_penalty": self.value(request, "repetition_penalty", 1.0),
            "skip_special_tokens": self.value(request, "skip_special_tokens", True),
        }
        return Ask(
            self.value(request, "prompt"),
            params,
            stop=tuple(self.values(request, "stop_words")),
            with_stop=False,
            stream=self.value(request, "stream"),
        )

    def write(self, ask, piece):
        return [self.tensor("response", [piece.text])]
