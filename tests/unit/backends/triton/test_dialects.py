"""Tensors, configs and commands of Triton's protocol, without a server."""

import struct
from dataclasses import replace

import pytest

from lagent_llms import (
    ConfigError,
    ConnectError,
    InvalidArgument,
    RateLimited,
    ServerError,
    SessionBusy,
    StreamInterrupted,
    TimeoutExceeded,
    UnsupportedParameter,
)
from lagent_llms.backends.triton import Model, find_dialect
from lagent_llms.backends.triton.conversation import NEXT, Ask, Describe, Index, Open, Pause, exchange
from lagent_llms.backends.triton.discovery import Finder, Wanted
from lagent_llms.backends.triton.errors import answer_error, status_error
from lagent_llms.backends.triton.http_messages import JSONResponse, answer_call
from lagent_llms.backends.triton.inputs import Inputs
from lagent_llms.backends.triton.model_config import ModelConfig
from lagent_llms.backends.triton.tensors import Tensor, read_strings, read_values
from lagent_llms.backends.triton.text_delta import Habit
from lagent_llms.backends.triton.tokenizer import LocalTokens
from lagent_llms.http.retry import RetryPolicy
from lagent_llms.schema import Piece
from lagent_llms.testing import ScriptedLLM

# The forms in which gRPC (numbers as strings) and HTTP tell the same.
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


def test_a_config_in_either_form():
    config = ModelConfig.of(CONFIG)
    assert (config.max_batch_size, config.decoupled) == (8, True)
    assert str(config.inputs["pairs"]) == "pairs INT32[2, -1] optional"
    assert config.inputs["text_input"].datatype == "BYTES"
    assert config.parameters == {"accumulate_tokens": "true"}


def test_inputs_are_shaped_by_the_config():
    inputs = Inputs(ModelConfig.of(CONFIG))
    assert inputs.put("text_input", "你好")
    assert inputs.put(("seed", "top_p"), 1)
    assert not inputs.put("seed", 1)
    assert inputs.put("pairs", 1, 2, 3, 4, 5, 6)
    text, top_p, pairs = inputs.tensors
    assert (text.shape, pairs.shape) == ((1, 1), (1, 2, 3))
    assert text.raw() == b"\x06\x00\x00\x00" + "你好".encode()
    assert top_p.raw() == struct.pack("<f", 1.0)


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 2**31), ("top_k", -(2**31) - 1), ("top_p", 1e39)])
def test_a_value_that_the_models_input_cannot_hold(name, value):
    with pytest.raises(InvalidArgument, match=f"{name}=.*: the model's input is (INT|FP)32") as caught:
        Inputs(ModelConfig.of(CONFIG)).put(name, value)
    assert caught.value.argument == name


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BYTES", ["", "a", "你好"]),
        ("UINT64", [2**63]),
        ("INT32", [-1, 7]),
        ("BOOL", [True, False]),
        ("FP64", [0.1]),
    ],
)
def test_tensors_there_and_back(datatype, values):
    raw = Tensor("x", datatype, (len(values),), values).raw()
    assert read_values(datatype, raw) == values
    assert read_values(datatype, raw, 1) == values[1:]


def test_a_tensor_that_cannot_be_read():
    assert read_strings(b"\x02\x00\x00\x00\xe4\xbd") == ["\ufffd"]
    with pytest.raises(ServerError, match="BF16"):
        read_values("BF16", b"")


def test_what_a_dialect_needs():
    model = Model(ModelConfig.of(CONFIG), decoupled=True)
    assert find_dialect(model).name == "trtllm"
    with pytest.raises(ConfigError, match="vllm would need input sampling_parameters"):
        find_dialect(model, "vllm")
    with pytest.raises(UnsupportedParameter, match="seed=1"):
        find_dialect(model).conversation(request(seed=1), model)


def bare(*more, text="text_input", answer="text_output"):
    """A model with no input for how tokens are drawn."""
    names = (text, "max_tokens", *more)
    return Model(
        ModelConfig.of(
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


@pytest.mark.parametrize("dialect", SMALL)
def test_how_tokens_are_drawn_is_never_dropped(dialect):
    model = SMALL[dialect]
    assert find_dialect(model, dialect).conversation(ScriptedLLM().prepare("hi", {}).request, model)
    neutral = {"temperature": 1, "top_k": None, "top_p": 1}
    assert find_dialect(model, dialect).conversation(ScriptedLLM(**neutral).prepare("hi", {}).request, model)
    for given in ({"temperature": 0}, {"temperature": 0.5}, {"top_k": 1}, {"top_p": 0.1}):
        (name,) = given
        for asked in (ScriptedLLM(**given).prepare("hi", {}), ScriptedLLM().prepare("hi", given)):
            with pytest.raises(UnsupportedParameter, match=f"{name}=.* no input"):
                find_dialect(model, dialect).conversation(asked.request, model)


def test_turbomind_drops_neither_seed_nor_penalty():
    model = SMALL["turbomind"]
    for given in ({"seed": 0}, {"repetition_penalty": 1.2}):
        with pytest.raises(UnsupportedParameter, match=f"{next(iter(given))}="):
            find_dialect(model, "turbomind").conversation(ScriptedLLM().prepare("hi", given).request, model)


def turn():
    """A turn of a session with turbomind, up to where its answer is read."""
    inputs = ("input_ids", "input_lengths", "request_output_len", "START", "END", "STOP", "CORRID")
    spec = [{"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in (*inputs, "runtime_top_k")]
    model = Model(ModelConfig.of({"name": "turbomind", "input": spec}), decoupled=True, tokens=Letters())
    conversation = find_dialect(model).conversation(request(session_id=7, sequence_end=False), model)
    steps = exchange(conversation, RetryPolicy(0), lambda: False)
    assert isinstance(next(steps), Open)
    assert steps.send(None) is NEXT
    return conversation, steps


class Letters:
    decodes = True

    def encode(self, text):
        return list(map(ord, text))

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids))

    def special(self, word):
        return []


class Ids:
    """A response of turbomind: 'hi' and one letter more."""

    def values(self, name, start=0, stop=None):
        return [3] if name == "sequence_length" else list(b"hia")[start:stop]


@pytest.mark.parametrize("code", [2, 3])
def test_a_refused_turn_stops_nobody_elses(code):
    conversation, steps = turn()
    with pytest.raises(SessionBusy):
        steps.throw(ServerError(f"TurboMind execute failure:  {code}"))
    assert conversation.farewell() is None


def test_a_turn_that_may_have_begun_is_stopped():
    for end in (TimeoutExceeded("late", phase="first_token", seconds=1), None):
        conversation, steps = turn()
        if end is None:
            assert steps.send(Ids()).text == "a"
            end = ServerError("it broke")
            assert steps.send(None) is NEXT
        with pytest.raises(type(end)):
            steps.throw(end)
        (stop,) = (tensor.values for tensor in conversation.farewell().inputs if tensor.name == "STOP")
        assert stop == (1,)


def test_statuses_are_told_by_their_code():
    assert isinstance(status_error("RESOURCE_EXHAUSTED", "full", "h:1"), RateLimited)
    assert status_error("UNAVAILABLE", "later", "h:1").status_code == 503
    assert isinstance(answer_error("UNAVAILABLE", "x", "h:1", alive=False, begun=False), ConnectError)
    assert isinstance(answer_error("UNAVAILABLE", "x", "h:1", alive=False, begun=True), StreamInterrupted)
    assert isinstance(answer_error("UNAVAILABLE", "x", "h:1", alive=True, begun=True), ServerError)


class Response:
    def __init__(self, text):
        self._text = text

    def text(self, name):
        return self._text if name == "text_output" else ""

    def values(self, name, start=0, stop=None):
        return []


def conversation(**given):
    model = Model(ModelConfig.of(CONFIG), decoupled=True)
    return find_dialect(model).conversation(request(**given), model)


def drive(steps, outcomes):
    """What `steps` asks for, each command answered by the next of `outcomes`."""
    commands = [next(steps)]
    for outcome in outcomes:
        send = steps.throw if isinstance(outcome, Exception) else steps.send
        commands.append(send(outcome))
        while isinstance(commands[-1], Piece):
            commands.append(steps.send(None))
    return commands


def test_an_answer_is_asked_for_again_until_it_has_begun():
    retry = RetryPolicy(1, uniform=lambda low, high: low)
    shown = []
    steps = exchange(conversation(), retry, lambda: bool(shown))
    commands = drive(steps, [ConnectError("nobody")])
    assert isinstance(commands[-1], Pause)
    assert isinstance(steps.send(None), Open)
    assert steps.send(None) is NEXT
    shown.append(steps.send(Response("a")))
    assert shown == [Piece("a")]
    assert steps.send(None) is NEXT
    with pytest.raises(ConnectError):
        steps.throw(ConnectError("gone"))


def test_a_broken_answer_is_not_asked_for_again():
    steps = exchange(conversation(), RetryPolicy(5), lambda: False)
    drive(steps, [None])
    with pytest.raises(StreamInterrupted):
        steps.throw(StreamInterrupted("cut"))


def finder(name="llm", **wanted):
    given = {
        "dialect": None,
        "bos": "",
        "session_len": None,
        "tokens": None,
        "cumulative": None,
        "echo": None,
    }
    return Finder(Wanted(name, **{**given, **wanted}))


def test_a_model_is_found_once():
    found = finder()
    steps = found.find()
    assert isinstance(next(steps), Index)
    assert steps.send([{"name": "llm", "state": "READY"}]) == Describe("llm")
    with pytest.raises(StopIteration) as end:
        steps.send(CONFIG)
    assert end.value.value.dialect.name == "trtllm"
    assert end.value.value.model.habit.cumulative is True  # the config says so
    with pytest.raises(StopIteration):
        next(found.find())


def test_the_model_that_counts_is_looked_for_when_it_is_needed():
    found = finder()
    counting = found.count("hi")
    next(counting)
    counting.send([{"name": "llm", "state": "READY"}, {"name": "preprocessing", "state": "READY"}])
    assert counting.send(CONFIG) == Describe("preprocessing")
    with pytest.raises(StopIteration) as none:
        counting.throw(ServerError("no such model", status_code=404))
    assert none.value.value is None
    again = found.count("hi")
    assert next(again) == Describe("preprocessing")
    query = {"name": "QUERY", "data_type": "TYPE_STRING", "dims": [1]}
    assert again.send({"name": "preprocessing", "input": [query]}).request.model == "preprocessing"
    assert isinstance(next(found.count("hi")), Ask)  # and only once


def test_of_several_versions_one_that_is_ready_will_do():
    steps = finder().find()
    next(steps)
    entries = [
        {"name": "llm", "state": "READY"},
        {"name": "llm", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert steps.send(entries) == Describe("llm")
    other = finder().find()
    next(other)
    with pytest.raises(ServerError, match="not loaded"):
        other.send([{"name": "llm"}])


class ResponseHead:
    status = 200

    def __init__(self, **headers):
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    is_event_stream = True


def test_the_end_of_a_streamed_body_over_http():
    call = answer_call(conversation())
    event = b'data: {"text_output": "a"}\n\n'
    whole = call.decoder(ResponseHead(transfer_encoding="chunked"))
    assert list(whole.feed(event)) + [piece.finish_reason for piece in whole.finish()][-1:]
    assert whole.complete
    unmarked = call.decoder(ResponseHead())
    list(unmarked.feed(event))
    with pytest.raises(StreamInterrupted, match="final marker"):
        list(unmarked.finish())


def test_an_error_in_mid_stream_over_http():
    decoder = answer_call(conversation()).decoder(ResponseHead(transfer_encoding="chunked"))
    with pytest.raises(ServerError, match="it broke"):
        list(decoder.feed(b'data: {"error": "it broke"}\n\n'))
    with pytest.raises(ServerError, match="no JSON"):
        list(decoder.feed(b"data: <html>\n\n"))


class Words:
    """A tokenizer as a user may write one."""

    bos_token = "<s>"

    def encode(self, text):
        return [7, *map(len, text.split())]

    def convert_tokens_to_ids(self, token):
        return {"<s>": 7}.get(token)


def test_turbomind_needs_a_tokenizer_that_decodes():
    model = replace(SMALL["turbomind"], tokens=LocalTokens(Words()))
    with pytest.raises(ConfigError, match="turbomind would need a tokenizer that can decode"):
        find_dialect(model, "turbomind")


VLLM = bare("sampling_parameters")
LMDEPLOY = SMALL["lmdeploy"]


@pytest.mark.parametrize(("dialect", "model"), [("vllm", VLLM), ("lmdeploy", LMDEPLOY)])
@pytest.mark.parametrize(
    ("habit", "responses"),
    [
        ({"cumulative": None, "echo": None}, ["a", "ab", "abc"]),
        ({"cumulative": True, "echo": None}, ["a", "aab", "aababc"]),
        ({"cumulative": None, "echo": True}, ["hia", "ab", "abc"]),
        ({"cumulative": True, "echo": True}, ["hia", "hiaab", "hiaababc"]),
    ],
)
def test_what_the_user_says_about_the_text_holds(dialect, model, habit, responses):
    reader = find_dialect(model, dialect).reader(request(), replace(model, habit=Habit(**habit)))
    outputs = [JSONResponse({"text_output": text, "response": text}) for text in responses]
    pieces = [piece for output in outputs if (piece := reader.feed(output)) is not None]
    assert "".join(piece.text for piece in [*pieces, reader.finish()]) == "aababc"


def test_a_tokenizer_of_the_users_own():
    tokens = LocalTokens(Words())
    assert tokens.encode("a bcd") == tokens.encode("<s>a bcd") == [7, 1, 3]
    assert (tokens.special("<BOS>"), tokens.special("<EOS>"), tokens.special("none")) == ([7], [], [])
