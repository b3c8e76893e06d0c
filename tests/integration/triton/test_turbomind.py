"""lmdeploy's turbomind: three models, with sessions kept on the server."""

import pytest

from lagent_llms import ModelStatusCode, SessionClosed, SessionOutOfLimit
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from tests.integration.lmdeploy.questions import COUNT, FRANCE, user
from tests.triton_peer import wait_until

TEMPLATE = {"meta_template": "internlm2-lagent"}
ALICE, NAME = user("My name is Alice."), user("What is my name?")


@pytest.fixture
def turns(events):
    """Function that returns the requests turbomind received, as dicts of inputs; single values as scalars."""

    def seen():
        return [
            {
                name: values[0] if len(values) == 1 else values
                for name, (_, _, values) in event["inputs"].items()
            }
            for event in events("begin")
            if event["model"] == "turbomind"
        ]

    return seen


@pytest.fixture(params=[None, EMBEDDED_MODEL], ids=["server-tokens", "local-tokens"])
def llm(request, make, peer):
    return make(peer.grpc, "turbomind", tokenizer=request.param, **TEMPLATE)


def test_only_the_new_turn_is_sent(llm, turns, events):
    llm.chat(ALICE, session_id=41, sequence_end=False)
    llm.chat(FRANCE, session_id=41, sequence_start=False, sequence_end=False)
    assert llm.chat(NAME, session_id=41, sequence_start=False) == "Your name is Alice."
    first, second, third = turns()
    assert [turn["START"] for turn in (first, second, third)] == [1, 0, 0]
    assert [turn["END"] for turn in (first, second, third)] == [0, 0, 1]
    assert first["CORRID"] == second["CORRID"] == third["CORRID"]
    assert first["step"] == 0 < second["step"] < third["step"]
    assert second["input_lengths"] < second["step"] + second["input_lengths"] <= third["step"]
    assert second["input_ids"][0] != first["input_ids"][0] == 1  # only the first has a BOS
    assert "random_seed" in first
    assert "random_seed" not in second
    (begun,) = {event["correlation_id"] for event in events("begin") if event["model"] == "turbomind"}
    assert begun == first["CORRID"]
    with pytest.raises(SessionClosed):
        llm.chat(NAME, session_id=41, sequence_start=False)


def test_stateless_calls_have_ids_of_their_own(llm, turns):
    assert len(set(llm.chat([FRANCE] * 4, session_id=4))) == 1
    assert len({turn["CORRID"] for turn in turns()}) == 4
    assert all(turn["START"] == turn["END"] == 1 for turn in turns())


def test_closing_a_stream_stops_the_generation(llm, turns, events):
    prompt = "[[tokens 400]] [[slow 0.02]]"
    with llm.stream("stream_generate", prompt, max_new_tokens=400) as stream:
        for chunk, _ in zip(stream, range(3), strict=False):
            assert chunk.status == ModelStatusCode.STREAM_ING
    assert wait_until(lambda: len(turns()) == 2)
    generation, stop = turns()
    assert (stop["STOP"], stop["END"], stop["CORRID"]) == (1, 1, generation["CORRID"])
    assert wait_until(
        lambda: [e for e in events("end") if e["id"].startswith("turbomind") and e["tokens"] > 2]
    )


def test_a_cancelled_turn_rewinds_the_session(llm, turns):
    llm.chat(ALICE, session_id=42, sequence_end=False)
    slow = user("[[tokens 400]] [[slow 0.02]]")
    with llm.stream("stream_chat", slow, session_id=42, sequence_start=False, sequence_end=False) as stream:
        next(iter(stream))
    # The next turn waits until the server has released the session.
    assert llm.chat(NAME, session_id=42, sequence_start=False) == "Your name is Alice."
    _, cancelled, stop, last = turns()
    assert stop["STOP"] == 1
    assert last["step"] == cancelled["step"]


def test_a_failed_turn_rewinds_the_session(llm, turns):
    llm.chat(ALICE, session_id=43, sequence_end=False)
    with llm.stream(
        "stream_chat",
        user("[[error 2]] [[tokens 9]]"),
        session_id=43,
        sequence_start=False,
        sequence_end=False,
        on_error="status",
    ) as stream:
        assert list(stream)[-1].status == ModelStatusCode.SERVER_ERR
    assert llm.chat(NAME, session_id=43, sequence_start=False) == "Your name is Alice."
    _, failed, last = [turn for turn in turns() if not turn["STOP"]]
    assert last["step"] == failed["step"] > 0


def test_turn_after_a_stop_word_continues_from_the_cut(llm, turns, jax):
    turns_given = [
        {"session_id": 44, "sequence_end": False, "stop_words": ["Paris"]},
        {"session_id": 44, "sequence_start": False, "stop_words": ["<|im_end|>"]},
    ]
    expected = [jax.chat(dialog, **given) for dialog, given in zip((FRANCE, NAME), turns_given, strict=True)]
    assert [
        llm.chat(dialog, **given) for dialog, given in zip((FRANCE, NAME), turns_given, strict=True)
    ] == expected
    first, *_, last = turns()
    assert last["step"] == first["input_lengths"]  # rewound to the prompt: later text is sent again


def test_clients_with_the_same_session_id_do_not_disturb_each_other(llm, make, peer):
    other = make(peer.grpc, "turbomind", **TEMPLATE)
    first, middle, last = (
        {"session_id": 46, "sequence_start": start, "sequence_end": end}
        for start, end in ((True, False), (False, False), (False, True))
    )
    llm.chat(ALICE, **first)
    other.chat(user("My name is Bob."), **first)
    slow = user("[[tokens 400]] [[slow 0.02]]")
    with other.stream("stream_chat", slow, **middle) as abandoned:
        next(iter(abandoned))
        assert llm.chat(FRANCE, **middle) == "The capital of France is Paris."
    assert llm.chat(NAME, **last) == "Your name is Alice."
    assert other.chat(NAME, **last) == "Your name is Bob."


def test_a_session_that_the_server_has_lost_is_sent_again(llm, turns, make, peer, monkeypatch):
    llm.chat(ALICE, session_id=45, sequence_end=False)
    other = make(peer.grpc, "turbomind", **TEMPLATE)
    lost = turns()[0]["CORRID"]
    monkeypatch.setattr("random.getrandbits", lambda _: lost)
    other.chat(FRANCE, session_id=45, sequence_end=False)
    other.chat(FRANCE, session_id=45, sequence_start=False)  # closes the session
    assert llm.chat(NAME, session_id=45, sequence_start=False) == "Your name is Alice."
    assert turns()[-1]["START"] == 1
    assert turns()[-1]["input_lengths"] > 20


def test_session_len_before_anything_is_sent(make, peer, turns):
    llm = make(peer.grpc, "turbomind", session_len=100, max_new_tokens=40, **TEMPLATE)
    llm.chat(FRANCE, session_id=46, sequence_end=False)
    with pytest.raises(SessionOutOfLimit, match="session_len=100"):
        for _ in range(5):
            llm.chat(FRANCE, session_id=46, sequence_start=False, sequence_end=False)
    sent = len(turns())
    with llm.stream(
        "stream_chat", FRANCE * 9, session_id=46, sequence_start=False, on_error="status"
    ) as stream:
        assert [chunk.status for chunk in stream] == [ModelStatusCode.SESSION_OUT_OF_LIMIT]
    assert len(turns()) == sent


def test_partial_character_is_held_back(llm, jax):
    expected = jax.chat(user("你好"))
    with llm.stream("stream_chat", user("你好")) as stream:
        texts = [text for _, text, _ in stream]
    assert texts[-1] == expected
    assert not any("\ufffd" in text for text in texts)


def test_stop_words_that_are_one_token(llm, turns):
    assert llm.chat(COUNT, stop_words=["<|im_end|>", "5"]) == "1, 2, 3, 4, "
    words = turns()[0]["stop_words_list"]
    assert len(words) == 2  # one id, one offset
    assert words[1] == 1


def test_dialect_does_not_depend_on_the_model_name(make, peer):
    llm = make(peer.grpc, "internlm2-chat-7b", **TEMPLATE)
    assert llm.dialect_found() == "turbomind"
    assert llm.chat(FRANCE) == "The capital of France is Paris."


def test_two_sessions_at_once(make, peer):
    llm = make(peer.grpc, "turbomind", **TEMPLATE)
    for number, name in ((50, "Alice"), (51, "Bob")):
        llm.chat(user(f"My name is {name}."), session_id=number, sequence_end=False)
    answers = llm.chat([NAME, NAME], session_ids=[50, 51], sequence_start=False)
    assert answers == ["Your name is Alice.", "Your name is Bob."]
