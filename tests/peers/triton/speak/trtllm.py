"""TensorRT-LLM's ensemble and BLS models, from the embedded model or a script.

Parameters of the config: embedded; accumulate (every response has the whole text so far); echo (the response
repeats the prompt, whatever the request says).
"""

from lagent_llms.schema import Piece

from .answers import Ask
from .model import Model


class TritonPythonModel(Model):
    def read(self, request):
        temperature = self.value(request, "temperature", 1.0)
        top_k = self.value(request, "top_k", 0)
        seed = self.value(request, "random_seed", self.value(request, "seed"))
        params = {
            "max_new_tokens": self.value(request, "max_tokens"),
            "temperature": 0 if top_k == 1 else temperature,
            "top_k": top_k or None,
            "top_p": self.value(request, "top_p") or 1.0,
            "repetition_penalty": self.value(request, "repetition_penalty", 1.0),
            "frequency_penalty": self.value(request, "frequency_penalty"),
            "presence_penalty": self.value(request, "presence_penalty"),
            "min_new_tokens": self.value(request, "min_tokens"),
            "seed": None if seed is None else int(seed),
            "ignore_eos": self.value(request, "end_id", 0) == -1,
        }
        ask = Ask(
            self.value(request, "text_input"),
            params,
            stop=tuple(self.values(request, "stop_words")),
            stream=self.value(request, "stream", False),
        )
        if self.setting("echo") or not self.value(request, "exclude_input_in_output", False):
            ask.before = ask.prompt
        return ask

    async def pieces(self, ask):
        so_far = ""
        if ask.before and ask.stream:
            so_far = ask.before
            yield Piece(so_far)
        async for piece in super().pieces(ask):
            so_far += piece.text
            if ask.stream and self.setting("accumulate"):
                piece.text = so_far
            yield piece

    def write(self, ask, piece):
        return [self.tensor("text_output", [piece.text])]
