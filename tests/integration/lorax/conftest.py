"""A server that speaks LoRAX's protocol with the embedded model and its adapters, for all tests here."""

import pytest

from lagent_llms import JAXPipeline
from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.testing.conformance import Caller
from tests import lorax_peer

TOKEN = "hf_very_secret"
SMALL = [
    "--max-stop-sequences", 2, "--max-concurrent-requests", 3, "--keep-alive", 0.1,
    "--private", "pirate", "--private-token", TOKEN,
]  # fmt: skip


@pytest.fixture(scope="package")
def peer():
    with lorax_peer.server() as peer:
        yield peer


@pytest.fixture(scope="package")
def small_peer():
    """Our peer with low limits, a private adapter and frequent keep-alives."""
    with lorax_peer.served(*SMALL) as peer:
        yield peer


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def connect(request):
    """Creates clients with one synchronous interface, for `Client` and `AsyncClient`."""
    made = []

    def connect(url, *args, **kwargs):
        made.append(ClientCaller(request.param(url, *args, **kwargs)))
        return made[-1]

    yield connect
    for one in made:
        one.close()


class ClientCaller(Caller):
    """`Caller` for clients, with `tokens` for their streaming method."""

    def tokens(self, prompt, **kwargs):
        """Return all items of generate_stream."""
        return self.chunks("generate_stream", prompt, **kwargs)


@pytest.fixture
def client(connect, peer):
    return connect(peer.url)


@pytest.fixture(scope="package")
def jax():
    """The reference for greedy answers of the base model."""
    with JAXPipeline(temperature=0, max_new_tokens=64) as llm:
        yield llm


def prompt_of(text):
    """Return a question in the format of the model."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
