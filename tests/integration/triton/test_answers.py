"""The embedded model gives the same answers behind three dialects as in process."""

import pytest

from tests.integration.lmdeploy.questions import DIALOGS, FRANCE, PARIS, user

EMBEDDED = ["trtllm", "vllm", "turbomind"]
TEMPLATE = {"meta_template": "internlm2-lagent"}
PLACES = {"France": "Paris", "Germany": "Berlin", "Japan": "Tokyo", "Italy": "Rome"}


@pytest.mark.parametrize("model", EMBEDDED)
def test_greedy_answers_are_those_of_the_engine_in_process(make, peer, jax, model):
    llm = make(peer.grpc, model, **TEMPLATE)
    expected = [jax.chat(dialog) for dialog in DIALOGS]
    assert expected[0] == PARIS
    assert llm.chat(DIALOGS) == expected
    for dialog, text in zip(DIALOGS, expected, strict=True):
        with llm.stream("stream_chat", dialog) as stream:
            chunks = list(stream)
        assert "".join(chunk.delta for chunk in chunks) == chunks[-1].text == text


@pytest.mark.parametrize("model", ["trtllm", "vllm"])
def test_greedy_answers_over_http_are_the_same(make, peer, jax, model):
    llm = make(peer.http, model, **TEMPLATE)
    assert llm.chat(DIALOGS) == [jax.chat(dialog) for dialog in DIALOGS]
    with llm.stream("stream_chat", user("你好")) as stream:
        assert list(stream)[-1].text == jax.chat(user("你好"))


@pytest.mark.parametrize("session_len", [None, 4096])
@pytest.mark.parametrize("server", ["grpc", "http"])
def test_preprocessing_model_counts_tokens(make, peer, jax, server, session_len):
    llm = make(getattr(peer, server), "trtllm", session_len=session_len)
    assert llm.tokenize("What is the capital of France?") == jax.tokenize("What is the capital of France?")


@pytest.mark.parametrize("model", EMBEDDED)
def test_64_prompts_keep_their_order_and_run_at_once(make, peer, events, model):
    llm = make(peer.grpc, model, max_concurrency=64, **TEMPLATE)
    places = [list(PLACES)[n % 4] for n in range(64)]
    prompts = [
        f"<|im_start|>user\nWhat is the capital of {place}?<|im_end|>\n<|im_start|>assistant\n"
        for place in places
    ]
    assert llm.generate(prompts) == [f"The capital of {place} is {PLACES[place]}." for place in places]
    running = most = 0
    for event in events():
        if event["id"].startswith(f"{model}-"):
            running += 1 if event["event"] == "begin" else -1
            most = max(most, running)
    assert most > 8


@pytest.mark.parametrize("model", ["vllm", "turbomind"])
def test_generated_tokens_are_counted(make, peer, jax, model):
    llm = make(peer.grpc, model, **TEMPLATE)
    tokens = jax.complete(FRANCE).usage
    with llm.stream("stream_chat", FRANCE) as stream:
        counts = [n for _, _, n in stream]
    assert counts == sorted(counts)
    assert (
        counts[-1] == tokens.completion_tokens or counts[-1] == tokens.completion_tokens - 1
    )  # the end token
    assert llm.complete(FRANCE).usage.prompt_tokens == tokens.prompt_tokens


@pytest.mark.parametrize("model", EMBEDDED)
def test_max_new_tokens(make, peer, jax, model):
    from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL

    llm = make(peer.grpc, model, tokenizer=EMBEDDED_MODEL, **TEMPLATE)
    completion = llm.complete(user("Count from 1 to 60."), max_new_tokens=7)
    assert completion.text == jax.chat(user("Count from 1 to 60."), max_new_tokens=7)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 7)


@pytest.mark.parametrize("model", EMBEDDED)
def test_a_seed_makes_sampling_repeatable(make, peer, model):
    llm = make(peer.grpc, model, temperature=1.5, top_k=None, top_p=1)
    prompt = "<|im_start|>assistant\n"
    texts = [llm.generate(prompt, seed=seed, max_new_tokens=24) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
