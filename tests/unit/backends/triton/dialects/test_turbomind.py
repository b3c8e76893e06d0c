"""The turbomind dialect: turns of a session and their cancel requests."""

from dataclasses import replace

import pytest

from lagent_llms import ConfigError, ServerError, SessionBusy, TimeoutExceeded, UnsupportedParameter
from lagent_llms.backends.triton import Model, find_dialect
from lagent_llms.backends.triton.conversation import READ_RESPONSE, OpenStream
from lagent_llms.backends.triton.model_config import TritonModelConfig
from lagent_llms.backends.triton.tokenizer import LocalTokenizer
from lagent_llms.testing import ScriptedLLM
from tests.unit.backends.triton.models import SMALL, request
from tests.unit.backends.triton.test_tokenizer import Words


def test_turbomind_drops_neither_seed_nor_penalty():
    model = SMALL["turbomind"]
    for given in ({"seed": 0}, {"repetition_penalty": 1.2}):
        with pytest.raises(UnsupportedParameter, match=f"{next(iter(given))}="):
            find_dialect(model, "turbomind").conversation(ScriptedLLM().prepare("hi", given).request, model)


def turn():
    """Start a turn of a turbomind session, up to reading the first response."""
    inputs = ("input_ids", "input_lengths", "request_output_len", "START", "END", "STOP", "CORRID")
    spec = [{"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in (*inputs, "runtime_top_k")]
    config = TritonModelConfig.from_json({"name": "turbomind", "input": spec})
    model = Model(config, decoupled=True, tokenizer=Letters())
    conversation = find_dialect(model).conversation(request(session_id=7, sequence_end=False), model)
    steps = conversation.steps()
    assert isinstance(next(steps), OpenStream)
    assert steps.send(None) is READ_RESPONSE
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
    """A response of turbomind: 'hi' and one more letter."""

    def values(self, name, start=0, stop=None):
        return [3] if name == "sequence_length" else list(b"hia")[start:stop]


@pytest.mark.parametrize("code", [2, 3])
def test_rejected_turn_sends_no_cancel_request(code):
    conversation, steps = turn()
    with pytest.raises(SessionBusy):
        steps.throw(ServerError(f"TurboMind execute failure:  {code}"))
    assert conversation.cancel_request() is None


def test_turn_that_may_have_started_sends_a_cancel_request():
    for end in (TimeoutExceeded("late", phase="first_token", seconds=1), None):
        conversation, steps = turn()
        if end is None:
            assert steps.send(Ids()).text == "a"
            end = ServerError("it broke")
            assert steps.send(None) is READ_RESPONSE
        with pytest.raises(type(end)):
            steps.throw(end)
        (stop,) = (tensor.values for tensor in conversation.cancel_request().inputs if tensor.name == "STOP")
        assert stop == (1,)


def test_turbomind_needs_a_tokenizer_that_decodes():
    model = replace(SMALL["turbomind"], tokenizer=LocalTokenizer(Words()))
    with pytest.raises(ConfigError, match="turbomind would need a tokenizer that can decode"):
        find_dialect(model, "turbomind")
