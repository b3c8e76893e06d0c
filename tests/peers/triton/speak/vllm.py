"""vLLM's backend for Triton: one JSON of sampling parameters, deltas, counts on request."""

import json

from .answers import Ask
from .model import Model

_NAMES = {
    "max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "min_p": "min_p",
    "repetition_penalty": "repetition_penalty", "seed": "seed", "ignore_eos": "ignore_eos",
    "skip_special_tokens": "skip_special_tokens", "logprobs": "logprobs",
    "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty",
    "min_tokens": "min_new_tokens", "logit_bias": "logit_bias",
}  # fmt: skip
#: The fields of StructuredOutputsParams that are constraints; one of them is given.
_CONSTRAINTS = {"json": dict, "json_object": bool, "regex": str, "choice": list}
_WANTED = ("finish_reason", "num_input_tokens", "num_output_tokens", "logprobs")


class TritonPythonModel(Model):
    def read(self, request):
        given = json.loads(self.value(request, "sampling_parameters", "{}"))
        params = {ours: given[name] for name, ours in _NAMES.items() if given.get(name) is not None}
        if (constraint := given.get("structured_outputs")) is not None:
            ((name, value),) = json.loads(constraint).items()  # the backend decodes it a second time
            if not isinstance(value, _CONSTRAINTS[name]):
                raise ValueError(f"structured_outputs.{name} is {value!r}")
        params["top_k"] = given["top_k"] if given.get("top_k", -1) > 0 else None
        stream = self.value(request, "stream", False)
        ask = Ask(
            self.value(request, "text_input"),
            params,
            stop=tuple(given.get("stop", ())),
            with_stop=given.get("include_stop_str_in_output", False),
            stream=stream,
        )
        excluded = self.value(request, "exclude_input_in_output", bool(stream))
        if stream and not excluded:
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        ask.before = "" if excluded else ask.prompt
        ask.wanted = [name for name in _WANTED if self.value(request, f"return_{name}", False)]
        ask.counted = 0
        return ask

    def write(self, ask, piece):
        tensors = [self.tensor("text_output", [piece.text])]
        if "finish_reason" in ask.wanted:
            tensors.append(self.tensor("finish_reason", [str(piece.finish_reason)]))
        if "num_input_tokens" in ask.wanted:
            prompt = ask.prompt if self.answers.llm is None else self.answers.llm._encode(ask.prompt)
            tensors.append(self.tensor("num_input_tokens", [len(prompt)]))
        if "num_output_tokens" in ask.wanted:
            tensors.append(self.tensor("num_output_tokens", [piece.n_tokens - ask.counted]))
            ask.counted = piece.n_tokens
        if "logprobs" in ask.wanted:
            rows = [self._row(item) for item in piece.logprobs]
            tensors.append(self.tensor("logprobs", [json.dumps(rows)]))
        return tensors

    def _row(self, item):
        best = item.top or ((item.token, item.token_id, item.logprob),)
        row = {str(item.token_id): {"logprob": item.logprob, "rank": 1, "decoded_token": item.token}}
        for rank, (token, index, logprob) in enumerate(best, 1):
            row[str(index)] = {"logprob": logprob, "rank": rank, "decoded_token": token}
        return row
