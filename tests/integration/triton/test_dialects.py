"""Each dialect, on scripted models: the tensors sent, and the answer read from the responses."""

import json
import re

import pytest

from lagent_llms import ConfigError, InvalidArgument, UnsupportedParameter
from lagent_llms.backends.triton import InferRequest, OneModelDialect, TextReader, register_dialect
from lagent_llms.backends.triton.grpc_messages import infer_message

DIALECTS = {
    "trtllm-scripted": "trtllm",
    "trtllm-cumulative": "trtllm",
    "trtllm-echo": "trtllm",
    "trtllm-echo-cumulative": "trtllm",
    "trtllm-whole": "trtllm",
    "ensemble": "trtllm",
    "llmapi": "llmapi",
    "vllm-scripted": "vllm",
    "lmdeploy_model": "lmdeploy",
}
SAYING = "The [[say 你好, the quick  brown fox — it jumps. The]]"
SAID = "你好, the quick  brown fox — it jumps. The"


def shapes(event):
    return {name: (dtype, shape, values) for name, (dtype, shape, values) in event["inputs"].items()}


@pytest.mark.parametrize("server", ["grpc", "http"])
@pytest.mark.parametrize("model", DIALECTS)
def test_answer_without_prompt_or_repeated_text(make, peer, model, server):
    llm = make(getattr(peer, server), model)
    assert llm.dialect_found() == DIALECTS[model]
    for _ in range(2):  # the second answer uses what the first one has detected
        assert llm.generate(SAYING) == SAID
        with llm.stream("stream_generate", SAYING) as stream:
            deltas = [chunk.delta for chunk in stream]
        assert "".join(deltas) == SAID
        assert len(deltas) > 5 or model == "trtllm-whole"
    assert llm.generate(SAYING, stream=False) == SAID


@pytest.mark.parametrize("model", DIALECTS)
def test_a_stop_word_ends_the_answer(make, peer, model):
    completion = make(peer.grpc, model).complete(SAYING, stop_words=["fox"])
    assert (completion.text, completion.finish_reason, completion.stop_word) == (
        "你好, the quick  brown ",
        "stop",
        "fox",
    )


def test_tensors_of_tensorrt_llm(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted", repetition_penalty=1.1)
    llm.generate("hi", stop_words=["a", "b"], temperature=0.5, top_k=7, top_p=0.75, seed=11, max_new_tokens=3)
    sent = shapes(events("begin")[0])
    assert sent["text_input"] == ("object", [1, 1], ["hi"])  # a leading batch dimension
    assert sent["max_tokens"] == ("int32", [1, 1], [3])
    assert sent["stop_words"] == ("object", [1, 2], ["a", "b"])
    assert sent["temperature"] == ("float32", [1, 1], [0.5])
    assert sent["top_k"] == ("int32", [1, 1], [7])
    assert sent["top_p"] == ("float32", [1, 1], [0.75])
    assert sent["random_seed"] == ("uint64", [1, 1], [11])
    assert sent["stream"] == ("bool", [1, 1], [True])
    assert sent["exclude_input_in_output"] == ("bool", [1, 1], [True])
    assert sent["repetition_penalty"][2] == pytest.approx([1.1])


def test_tensor_names_come_from_the_config(make, peer, events):
    make(peer.grpc, "trtllm-whole", seed=5).generate("hi", temperature=1)
    sent = shapes(events("begin")[0])
    assert sent["seed"] == ("uint64", [1, 1], [5])
    assert "random_seed" not in sent
    assert sent["stream"][2] == [False]  # not decoupled: there is nothing to stream


def test_no_filter_and_greedy(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted")
    llm.generate("hi")
    llm.generate("hi", temperature=0.7, top_k=None)
    greedy, sampled = map(shapes, events("begin"))
    assert greedy["top_k"][2] == [1]
    assert sampled["top_k"][2] == [0]


def test_tensors_of_vllm(make, peer, events):
    llm = make(peer.grpc, "vllm-scripted", top_k=None)
    llm.generate("hi", stop_words=["x"], min_p=0.1, skip_special_tokens=True, adapter_name="poet", seed=3)
    sent = shapes(events("begin")[0])
    assert sent["text_input"] == ("object", [1], ["hi"])  # no batch dimension here
    assert json.loads(sent["sampling_parameters"][2][0]) == {
        "max_tokens": 64, "temperature": 0, "top_p": 0.8, "top_k": -1, "repetition_penalty": 1.0, "seed": 3,
        "min_p": 0.1, "ignore_eos": False, "skip_special_tokens": True, "stop": ["x"],
        "include_stop_str_in_output": True, "lora_name": "poet",
    }  # fmt: skip
    assert sent["exclude_input_in_output"][2] == sent["return_num_output_tokens"][2] == [True]


#: response_format -> guide type and guide of TensorRT-LLM, field of vLLM's StructuredOutputsParams.
CONSTRAINTS = [
    ({"type": "json_object"}, ["json"], [], {"json_object": True}),
    ({"enum": [1, 2]}, ["json_schema"], ['{"enum":[1,2]}'], {"json": {"enum": [1, 2]}}),
    (re.compile("[ab]+"), ["regex"], ["[ab]+"], {"regex": "[ab]+"}),
    (["yes", "no."], ["regex"], [r"yes|no\."], {"choice": ["yes", "no."]}),
]


def test_tensors_of_constraints(make, peer, events):
    trtllm, vllm = (make(peer.grpc, model) for model in ("trtllm-whole", "vllm-scripted"))
    for given, *_ in CONSTRAINTS:
        for llm in (trtllm, vllm):
            assert llm.generate("[[say yes]]", response_format=given) == "yes"
    seen = iter(map(shapes, events("begin")))
    for _, kind, guide, fields in CONSTRAINTS:
        sent = next(seen)
        assert sent["guided_decoding_guide_type"][2] == kind
        assert sent.get("guided_decoding_guide", ("", [], []))[2] == guide
        assert json.loads(json.loads(next(seen)["sampling_parameters"][2][0])["structured_outputs"]) == fields


def test_tensors_of_lmdeploys_python_backend(make, peer, events):
    make(peer.grpc, "lmdeploy_model").generate("hi", stop_words=["<|im_end|>", "word"], temperature=0.5)
    sent = shapes(events("begin")[0])
    assert sent["prompt"] == ("object", [1], ["hi"])
    assert sent["ignore_eos"] == ("bool", [1], [False])
    assert sent["temperature"] == ("float64", [1], [0.5])
    assert sent["skip_special_tokens"] == ("bool", [1], [False])  # the default is True
    assert sent["stop_words"][2] == ["<|im_end|>"]  # only stop words of one token are supported


def test_tensors_of_llmapi(make, peer, events):
    make(peer.grpc, "llmapi").generate("hi", stop_words=["a"], max_new_tokens=9)
    sent = shapes(events("begin")[0])
    assert sent["sampling_param_max_tokens"] == ("int32", [1], [9])
    assert sent["sampling_param_stop"][2] == ["a"]
    assert sent["streaming"][2] == sent["sampling_param_exclude_input_from_output"][2] == [True]


def test_finish_reasons(make, peer):
    for model in ("llmapi", "vllm-scripted"):
        llm = make(peer.grpc, model)
        assert llm.complete("[[tokens 5]]", max_new_tokens=3).finish_reason == "length"
        assert llm.complete("[[tokens 5]]", max_new_tokens=9).finish_reason == "stop"


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_inputs_without_a_parameter(make, peer, events, server):
    llm = make(getattr(peer, server), "trtllm-scripted", extra_inputs={"beam_width": 1, "bad_words": "a"})
    llm.generate("hi", extra_inputs={"bad_words": ["b", "c"]}, frequency_penalty=0.5, min_new_tokens=2)
    sent = shapes(events("begin")[0])
    assert sent["beam_width"] == ("int32", [1, 1], [1])
    assert sent["bad_words"] == ("object", [1, 2], ["b", "c"])
    assert sent["frequency_penalty"] == ("float32", [1, 1], [0.5])
    assert sent["min_tokens"] == ("int32", [1, 1], [2])
    for extra, message in (
        ({"no_words": "a"}, r"extra_inputs\['no_words'\]='a': model 'trtllm-scripted' has no such input"),
        ({"max_tokens": 5}, r"extra_inputs\['max_tokens'\]=5: a parameter or the client itself sets it"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            llm.generate("hi", extra_inputs=extra)
    assert len(events("begin")) == 1


def test_what_was_not_given_is_the_servers(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted", temperature=None, max_new_tokens=None, sampling="server")
    llm.generate("hi", top_p=0.5)
    sent = shapes(events("begin")[0])
    assert (sent["max_tokens"][2], sent["top_p"][2]) == ([512], [0.5])
    assert not sent.keys() & {"temperature", "top_k", "repetition_penalty", "random_seed"}


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_extra_inputs_are_sent(make, peer, events, server):
    llm = make(getattr(peer, server), "trtllm-scripted")
    llm.generate("hi", request_id="mine-1", parameters={"color": "blue", "depth": 3, "deep": True})
    (seen,) = events("begin")
    assert seen["request_id"] == "mine-1"
    assert {"color": "blue", "depth": 3, "deep": True}.items() <= seen["parameters"].items()


def test_priority_and_correlation_ids(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted")
    message = infer_message(
        InferRequest("m", (), request_parameters={"priority": 1, "depth": 2, "deep": True})
    )
    found = {name: value.WhichOneof("parameter_choice") for name, value in message.parameters.items()}
    assert found == {"priority": "uint64_param", "depth": "int64_param", "deep": "bool_param"}
    llm.generate("hi", priority=1, session_id=77, sequence_end=False)
    llm.generate("ho", session_id=77, sequence_start=False)
    llm.generate("stateless", session_id=78)
    first, second, third = events("begin")
    assert (first["correlation_id"], second["correlation_id"], third["correlation_id"]) == (77, 77, 0)
    assert shapes(second)["text_input"][2][0].startswith("hi")  # the client sends the history


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("trtllm-scripted", {"min_p": 0.1}),
        ("trtllm-scripted", {"logprobs": 1}),
        ("trtllm-scripted", {"skip_special_tokens": True}),
        ("trtllm-scripted", {"adapter_name": "poet"}),
        ("trtllm-scripted", {"response_format": {"type": "json_object"}}),
        ("llmapi", {"repetition_penalty": 1.2}),
        ("llmapi", {"ignore_eos": True}),
        ("vllm-scripted", {"response_format": {"type": "structural_tag"}}),
        ("lmdeploy_model", {"seed": 1}),
        ("turbomind", {"logprobs": 2}),
        ("turbomind", {"min_p": 0.5}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_unsupported_parameters_are_rejected(make, peer, events, model, given):
    (name,) = given
    with pytest.raises(UnsupportedParameter, match=f"{name}=") as caught:
        make(peer.grpc, model).generate("hi", **given)
    assert caught.value.parameter == name
    assert events() == []


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_model_without_a_matching_dialect(make, peer, server):
    with pytest.raises(ConfigError) as caught:
        make(getattr(peer, server), "classifier").generate("hi")
    message = str(caught.value)
    assert "pixels FP32[3, 224, 224], threshold FP32[1] optional" in message
    assert "vllm would need input text_input, input sampling_parameters, output text_output" in message
    for name in ("trtllm", "llmapi", "vllm", "lmdeploy", "turbomind"):
        assert f"{name} would need" in message


def test_a_named_dialect_must_fit(make, peer):
    assert make(peer.grpc, "vllm-scripted", dialect="vllm").generate("[[say ok]]") == "ok"
    with pytest.raises(ConfigError, match="llmapi would need input sampling_param_max_tokens"):
        make(peer.grpc, "vllm-scripted", dialect="llmapi").generate("hi")
    with pytest.raises(ConfigError, match="did you mean 'trtllm'"):
        make(peer.grpc, "trtllm", dialect="trtlm")


def test_a_third_party_registers_a_dialect(make, peer, events):
    from lagent_llms.backends.triton.dialects import registry

    class Label(OneModelDialect):
        """A dialect for any model with a prompt and a response; requests half of the tokens."""

        name = "half"
        prompt, output, needs = "prompt", "response", ("ignore_eos",)

        def fill(self, request, inputs, model):
            inputs.put("max_tokens", request.params.max_new_tokens // 2)
            inputs.put("ignore_eos", False)
            return ("ignore_eos", "skip_special_tokens")

        def reader(self, request, model):
            return TextReader(request, model, self.output, model.output_style)

    register_dialect(Label())
    try:
        llm = make(peer.grpc, "lmdeploy_model", max_new_tokens=10)
        assert llm.dialect_found() == "half"
        assert llm.generate("[[tokens 9]]") == "t0 t1 t2 t3 t4 "
        assert "top_k" not in events("begin")[0]["inputs"]
    finally:
        del registry._DIALECTS["half"]


def test_model_name_defaults_to_the_only_model(make, peer):
    with pytest.raises(ConfigError, match="model_name is needed"):
        make(peer.grpc, dialect="vllm").generate("hi")
    assert make(peer.grpc, dialect="llmapi").generate("[[say one]]") == "one"
    assert make(peer.grpc).dialect_found() == "trtllm"  # with several models: the one named ensemble


def test_cancelling_an_ensemble_does_not_reach_its_steps(make, peer, events):
    """A documented limit of the server; this test shows when a later version lifts it."""
    from tests.triton_peer import wait_until

    llm = make(peer.grpc, "ensemble", max_new_tokens=40)
    with llm.stream("stream_generate", "[[tokens 40]] [[slow 0.02]]") as stream:
        next(iter(stream))
    assert wait_until(lambda: events("end"))
    assert events("end")[0]["why"] == "done"
