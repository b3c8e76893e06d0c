"""`session=` of the Triton client over HTTP."""

import pytest
import requests
import requests_mock

from lagent_llms import AsyncTritonClient, InvalidArgument, TritonClient


def test_a_session_sends_the_requests():
    session = requests.Session()
    session.headers["X-Tenant"] = "blue"
    with requests_mock.Mocker(session=session) as server:
        server.post(
            "http://triton.test:8000/v2/repository/index",
            json=[{"name": "m", "version": "1", "state": "READY"}, {"name": "n", "state": "UNAVAILABLE"}],
        )
        with TritonClient("http://triton.test:8000", "m", session=session) as llm:
            assert llm.models() == ["m"]
    assert server.last_request.headers["X-Tenant"] == "blue"


def test_a_session_of_the_wrong_kind_is_refused():
    for make in (
        lambda: TritonClient("http://triton.test:8000", "m", session=object()),
        lambda: AsyncTritonClient("http://triton.test:8000", "m", session=requests.Session()),
    ):
        with pytest.raises(InvalidArgument, match="session") as caught:
            make()
        assert caught.value.argument == "session"


def test_a_session_needs_the_http_service():
    with pytest.raises(InvalidArgument, match=r"grpc://triton.test:8001 is a gRPC service"):
        TritonClient("triton.test:8001", "m", session=requests.Session())
