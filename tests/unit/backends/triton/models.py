"""Models and requests shared by the tests of this folder."""

from dataclasses import replace

from lagent_llms.backends.triton import Model
from lagent_llms.backends.triton.model_config import TritonModelConfig
from lagent_llms.testing import ScriptedLLM

# Mixes the forms of gRPC (numbers as strings) and HTTP.
CONFIG = {
    "name": "llm",
    "max_batch_size": "8",
    "model_transaction_policy": {"decoupled": True},
    "input": [
        {"name": "text_input", "data_type": "TYPE_STRING", "dims": ["1"]},
        {"name": "max_tokens", "data_type": "TYPE_INT32", "dims": [1]},
        {"name": "stop_words", "data_type": "TYPE_STRING", "dims": [-1], "optional": True},
        {"name": "pairs", "data_type": "TYPE_INT32", "dims": ["2", "-1"], "optional": True},
        {"name": "top_p", "data_type": "TYPE_FP32", "dims": [1], "optional": True},
        {"name": "top_k", "data_type": "TYPE_INT32", "dims": [1], "optional": True},
        {"name": "stream", "data_type": "TYPE_BOOL", "dims": [1], "optional": True},
    ],
    "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}],
    "parameters": {"accumulate_tokens": {"string_value": "true"}},
}


def request(prompt="hi", **given):
    return ScriptedLLM(temperature=0).prepare(prompt, given).request


def bare(*more, text="text_input", answer="text_output"):
    """Make a model without inputs for sampling parameters."""
    names = (text, "max_tokens", *more)
    return Model(
        TritonModelConfig.from_json(
            {
                "name": "bare",
                "input": [{"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in names],
                "output": [{"name": answer, "data_type": "TYPE_STRING", "dims": [1]}],
            }
        ),
        decoupled=False,
    )


SMALL = {
    "trtllm": bare(),
    "llmapi": bare("sampling_param_max_tokens"),
    "lmdeploy": bare("ignore_eos", "stream", "skip_special_tokens", text="prompt", answer="response"),
    "turbomind": replace(
        bare("input_ids", "input_lengths", "request_output_len", "START", "END", "CORRID"),
        companions={"preprocessing": None, "postprocessing": None},
    ),
}
