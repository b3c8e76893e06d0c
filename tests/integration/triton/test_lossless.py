"""No answer loses a token: many sessions at once, sync and async, with generations abandoned in between.

``LAGENT_LLM_TEST_CONVERSATIONS`` is the number of conversations of each client, 200 by default. Only those of
turbomind are abandoned: others are stopped by gRPC's cancel, which sometimes crashes tritonserver 2.51.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lagent_llms import AsyncTritonClient, TritonClient
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from tests import triton_peer

pytestmark = pytest.mark.alone

CONVERSATIONS = int(os.environ.get("LAGENT_LLM_TEST_CONVERSATIONS", "200"))
AT_ONCE = 24
#: Model -> arguments of its clients.
MODELS = {
    "turbomind": {"meta_template": "internlm2-lagent"},
    "turbomind-local-tokens": {"meta_template": "internlm2-lagent", "tokenizer": EMBEDDED_MODEL},
    "vllm-scripted": {"meta_template": "internlm2-lagent"},
}


@pytest.fixture(scope="module")
def peer():
    """A server of this file, since the others read the events of all requests again and again."""
    with triton_peer.served(["turbomind", "preprocessing", "postprocessing", "vllm-scripted"]) as peer:
        yield peer


def turns(llm, number):
    """Yield the turns of one conversation: what is said, and whether the caller leaves in the middle."""
    for turn in range(3):
        if llm.model_name == "turbomind" and (number + turn) % 3 == 0:
            yield "[[tokens 60]] [[slow 0.001]]", True
        words = (f"w{number}x{turn}y{word}" for word in range(1 + (number + turn) % 7))
        yield f"[[say {' '.join(words)}]]", False


def expected(prompt):
    return prompt.removeprefix("[[say ").removesuffix("]]")


def options(number, turn):
    return {"session_id": number, "sequence_start": turn == 0, "sequence_end": turn == 2}


def talk(llm, number):
    """Hold one conversation; return the answers that were wrong."""
    wrong, turn = [], 0
    for prompt, leave in turns(llm, number):
        messages = [{"role": "user", "content": prompt}]
        if leave:
            stream = llm.stream_chat(messages, **options(number, turn))
            next(stream)
            stream.close()
            continue
        answer = llm.chat(messages, **options(number, turn))
        wrong += [(prompt, answer)] if answer != expected(prompt) else []
        turn += 1
    return wrong


async def talk_async(llm, number):
    wrong, turn = [], 0
    for prompt, leave in turns(llm, number):
        messages = [{"role": "user", "content": prompt}]
        if leave:
            stream = llm.stream_chat(messages, **options(number, turn))
            await anext(stream)
            await stream.aclose()
            continue
        answer = await llm.chat(messages, **options(number, turn))
        wrong += [(prompt, answer)] if answer != expected(prompt) else []
        turn += 1
    return wrong


@pytest.mark.parametrize("model", MODELS)
def test_sync(peer, model):
    with (
        TritonClient(peer.grpc, model.removesuffix("-local-tokens"), timeout=120, **MODELS[model]) as llm,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        found = threads.map(lambda number: talk(llm, number), range(CONVERSATIONS))
        assert [wrong for conversation in found for wrong in conversation] == []


@pytest.mark.parametrize("model", MODELS)
async def test_async(peer, model):
    name = model.removesuffix("-local-tokens")
    async with AsyncTritonClient(peer.grpc, name, timeout=120, **MODELS[model]) as llm:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(number):
            async with limit:
                return await talk_async(llm, number)

        found = await asyncio.gather(*map(one, range(CONVERSATIONS)))
        assert [wrong for conversation in found for wrong in conversation] == []


def test_stop_words_that_both_sides_see_leave_the_server_running(peer):
    with TritonClient(peer.grpc, "vllm-scripted", timeout=120) as llm:
        for number in range(3000):
            assert llm.generate(f"[[say a b{number} c d e f g]]", stop_words=["c"]) == f"a b{number} "
