"""A gRPC channel to a scripted service: limits on its messages, secrets in its errors."""

from concurrent import futures

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as service

from lagent_llms import (
    AsyncTritonClient,
    AuthenticationError,
    InvalidArgument,
    LLMError,
    ServerError,
    TritonClient,
)
from lagent_llms.testing.conformance import Caller

KEY = "sk-very-secret"


class Service(service.GRPCInferenceServiceServicer):
    """A server with one model, whose name has `size` bytes; it refuses a key with an error that has it."""

    def __init__(self, size):
        self.size, self.calls = size, 0

    def ServerLive(self, request, context):
        return messages.ServerLiveResponse(live=True)

    def RepositoryIndex(self, request, context):
        self.calls += 1
        if key := dict(context.invocation_metadata()).get("authorization"):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"wrong key: {key}")
        index = messages.RepositoryIndexResponse()
        index.models.add(name="m" * self.size, state="READY")
        return index


@pytest.fixture(params=[TritonClient, AsyncTritonClient], ids=["sync", "async"])
def serve(request):
    """Return a function that starts a `Service` and connects a client to it."""
    made = []

    def serve(size, **given):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        one = Service(size)
        service.add_GRPCInferenceServiceServicer_to_server(one, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        client = Caller(request.param(f"127.0.0.1:{port}", **given))
        made.append((client, server))
        return client, one

    yield serve
    for client, server in made:
        client.close()
        server.stop(None).wait()


def test_a_message_over_the_limit_is_a_server_error(serve):
    client, server = serve(1 << 20, limits={"response_bytes": 1 << 16})
    with pytest.raises(ServerError, match="limits.response_bytes") as caught:
        client.models()
    assert type(caught.value) is ServerError
    assert server.calls == 1  # not retried, as an overloaded server would be


def test_a_message_within_the_limit_is_read(serve):
    client, _ = serve(1 << 23, limits={"response_bytes": 1 << 24})  # gRPC's own default is 4 MiB
    assert client.models() == ["m" * (1 << 23)]


def test_a_key_that_the_server_repeats_is_redacted(serve):
    client, _ = serve(1, api_key=KEY)
    with pytest.raises(AuthenticationError, match=r"wrong key: \*\*\*") as caught:
        client.models()
    assert KEY not in repr(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("address", ["me:s3cret@host:1", "http//me:s3cret@host:1", "grpc://:s3cret@host:1"])
def test_an_address_shows_no_password(address):
    with pytest.raises(InvalidArgument) as caught:
        TritonClient(address)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["a..b:1", "a b:1", "h\u00fc-\u2488:1", "[::1:1", "h:99999", "h:0", "[fe80::zz]:1"]
)
def test_an_address_that_cannot_be_used_is_an_llm_error(address):
    with pytest.raises(LLMError):
        TritonClient(address, max_retries=0, timeout=5).models()
