"""Each request gets its adapter: alone, merged, in a batch, and concurrently with others."""

import asyncio

import pytest

from lagent_llms import AsyncLoRAX, BatchError, InvalidArgument, LoRAX, UnsupportedParameter
from lagent_llms.lorax import AsyncClient, MergedAdapters, errors

from .conftest import prompt_of

HELLO = [{"role": "user", "content": "Hello!"}]
THANKS = [{"role": "user", "content": "Thank you!"}]
NAME = [{"role": "user", "content": "My name is Alice."}]
#: Adapter -> answer to a greeting; None is the base model.
GREETINGS = {
    None: "Hello! How can I help you?",
    "french": "Bonjour ! Comment puis-je vous aider ?",
    "pirate": "Ahoy, matey! What can I do for ye?",
    "shout": "HELLO! HOW CAN I HELP YOU?",
}
WHO = [{"role": "user", "content": "Who are you?"}]
BOTH = MergedAdapters(ids=["french", "pirate"], weights=[0.3, 0.5], merge_strategy="linear")
#: Adapter -> answer to WHO; "both" merges french and pirate.
INTRODUCTIONS = {
    None: "I am a small assistant that comes with lagent_llms.",
    "french": "Je suis un petit assistant fourni avec lagent_llms.",
    "pirate": "Arr, I be a small assistant that comes with lagent_llms.",
    "both": "Arr, I am a small assistant that comes with lagent_llms.",
}
#: Merges that are equal to one adapter.
MERGES = [
    ({"ids": ["french", "shout"], "weights": [1.0, 0.0]}, "french"),
    ({"ids": ["french", "shout"], "weights": [0.0, 1.0]}, "shout"),
    ({"ids": ["pirate"], "weights": [1.0], "merge_strategy": "ties", "density": 1.0}, "pirate"),
    (
        {
            "ids": ["pirate"], "weights": [1.0], "merge_strategy": "dare_ties", "density": 1.0,
            "majority_sign_method": "frequency",
        },
        "pirate",
    ),
    (
        {"ids": ["shout", "french"], "weights": [0.0, 1.0], "merge_strategy": "dare_linear", "density": 1.0},
        "french",
    ),
]  # fmt: skip


def make(peer, cls=LoRAX, **kwargs):
    given = {"temperature": 0, "max_new_tokens": 64, "meta_template": "internlm2-lagent", **kwargs}
    return cls(peer.url, **given)


def test_the_base_model_and_each_adapter_answer_differently(client, peer):
    with make(peer) as llm:
        for adapter, expected in GREETINGS.items():
            assert llm.chat(HELLO, adapter_id=adapter) == expected
            response = client.generate(prompt_of("Hello!"), adapter_id=adapter, max_new_tokens=40)
            assert response.generated_text == expected
            assert response.headers.adapter_id == adapter


def test_merged_adapters_answer_differently_from_each_of_them(client, peer):
    given = {name: {"adapter_id": name} for name in (None, "french", "pirate")}
    with make(peer) as llm:
        for name, options in {**given, "both": {"merged_adapters": BOTH}}.items():
            assert llm.chat(WHO, **options) == INTRODUCTIONS[name]
            found = client.generate(prompt_of("Who are you?"), max_new_tokens=40, **options)
            assert found.generated_text == INTRODUCTIONS[name]


@pytest.mark.parametrize(("merged", "expected"), MERGES, ids=str)
def test_merged_adapters(client, peer, merged, expected):
    text = client.generate(prompt_of("Hello!"), merged_adapters=merged, max_new_tokens=40).generated_text
    with make(peer, merged_adapters=merged) as llm:
        assert llm.chat(HELLO) == text == GREETINGS[expected]


def test_a_source_is_passed_on(peer):
    with make(peer) as llm:
        assert llm.chat(HELLO, adapter_id="french/1", adapter_source="pbase") == GREETINGS["french"]
        with pytest.raises(errors.GenerationError, match="in pbase"):
            llm.chat(HELLO, adapter_id="french", adapter_source="pbase")
    with make(peer, adapter_id="french/1", adapter_source="pbase") as llm:
        assert llm.chat(HELLO) == GREETINGS["french"]


def test_a_per_call_adapter_overrides_the_constructor(peer):
    merged = {"ids": ["shout"], "weights": [1.0]}
    with make(peer, adapter_id="french") as llm:
        assert llm.chat(HELLO) == GREETINGS["french"]
        assert llm.chat(HELLO, adapter_name="pirate") == GREETINGS["pirate"]
        assert llm.chat(HELLO, merged_adapters=merged) == GREETINGS["shout"]
        assert llm.chat(HELLO, adapter_id=None) == GREETINGS[None]
        assert llm.chat(HELLO) == GREETINGS["french"]
    with make(peer, merged_adapters=merged) as llm:
        assert llm.chat(HELLO, adapter_id="french") == GREETINGS["french"]
        assert llm.chat(HELLO) == GREETINGS["shout"]


def test_many_adapters_in_one_batch(peer):
    adapters = ["french", None, "shout", "pirate", "french"]
    with make(peer) as llm:
        assert llm.chat([HELLO] * 5, adapter_id=adapters) == [GREETINGS[one] for one in adapters]
        prompts = [prompt_of("Hello!")] * 5
        assert llm.generate(prompts, adapter_id=adapters) == [GREETINGS[one] for one in adapters]
        with pytest.raises(BatchError) as caught:
            llm.generate(prompts[:3], adapter_id=["french", "nobody", "shout"])
        assert caught.value.index == 1
        assert [caught.value.results[0], caught.value.results[2]] == [GREETINGS["french"], GREETINGS["shout"]]
        merged = [{"ids": [name], "weights": [1.0]} for name in ("pirate", "shout")]
        assert llm.generate(prompts[:2], merged_adapters=merged) == [GREETINGS["pirate"], GREETINGS["shout"]]
        with pytest.raises(InvalidArgument, match="adapter_id: 2 values for 3 inputs"):
            llm.generate(prompts[:3], adapter_id=["french", "shout"])


async def test_interleaved_requests_keep_their_adapters(peer):
    """Streams with different adapters are read in turns, a token at a time."""
    order = list(GREETINGS) * 5
    async with AsyncClient(peer.url) as client, make(peer, AsyncLoRAX) as llm:
        prompt = prompt_of("Hello!")
        streams = [client.generate_stream(prompt, adapter_id=one, max_new_tokens=40) for one in order]
        texts, open_ = [""] * len(order), set(range(len(order)))
        while open_:
            for index in sorted(open_):
                try:
                    response = await streams[index].__anext__()
                except StopAsyncIteration:
                    open_.discard(index)
                else:
                    texts[index] += "" if response.token.special else response.token.text
        assert texts == [GREETINGS[one] for one in order]
        answers = await asyncio.gather(*(llm.chat(HELLO, adapter_id=one) for one in order))
        assert answers == [GREETINGS[one] for one in order]


def test_a_session_keeps_its_history_when_the_adapter_changes(peer):
    with make(peer) as llm:
        llm.chat(NAME, session_id=1, sequence_end=False)
        question = [{"role": "user", "content": "What is my name?"}]
        shouted = llm.chat(question, session_id=1, sequence_start=False, adapter_id="shout")
        assert shouted.startswith("YOUR NAME IS")
        assert "ALICE" in shouted.upper()


def test_invalid_adapters_are_refused_before_anything_is_sent(peer):
    before = peer.metric("lorax_request_count")
    with make(peer) as llm:
        for given in (
            {"merged_adapters": {"ids": ["french"], "weights": [1], "merge_strategy": "best"}},
            {"merged_adapters": {"ids": ["french"], "weights": [1, 2]}},
            {"merged_adapters": "french"},
            {"adapter_id": ""},
            {"adapter_id": "french", "merged_adapters": {"ids": ["french"], "weights": [1]}},
            {"adapter_source": "ftp"},
        ):
            with pytest.raises(InvalidArgument):
                llm.chat(HELLO, **given)
            with pytest.raises(InvalidArgument):
                llm.stream_chat(HELLO, **given)
            with pytest.raises(InvalidArgument):
                llm.generate(["a", "b"], **given)
            with pytest.raises(InvalidArgument):
                make(peer, **given)
        with pytest.raises(UnsupportedParameter, match="min_p"):
            llm.chat(HELLO, min_p=0.1)
    assert peer.metric("lorax_request_count") == before
