"""Parsing of answers over HTTP, without I/O."""

import pytest

from lagent_llms import ServerError, StreamInterrupted
from lagent_llms.backends.triton import Model, find_dialect
from lagent_llms.backends.triton.http_messages import generate_call
from lagent_llms.backends.triton.model_config import TritonModelConfig
from lagent_llms.http.messages import ResponseHead
from tests.unit.backends.triton.models import CONFIG, request

SSE = {"content-type": "text/event-stream"}
CHUNKED = ResponseHead(
    200, {**SSE, "transfer-encoding": "chunked"}, "http://h:1", "/v2/models/m/generate_stream"
)


def conversation(**given):
    model = Model(TritonModelConfig.from_json(CONFIG), decoupled=True)
    return find_dialect(model).conversation(request(**given), model)


def test_the_end_of_a_streamed_body_over_http():
    call = generate_call(conversation())
    event = b'data: {"text_output": "a"}\n\n'
    whole = call.decoder(CHUNKED)
    assert list(whole.feed(event)) + [piece.finish_reason for piece in whole.finish()][-1:]
    assert whole.complete
    unmarked = call.decoder(ResponseHead(200, SSE))
    list(unmarked.feed(event))
    with pytest.raises(StreamInterrupted, match="final marker"):
        list(unmarked.finish())


def test_an_error_in_mid_stream_over_http():
    decoder = generate_call(conversation()).decoder(CHUNKED)
    with pytest.raises(ServerError, match="it broke"):
        list(decoder.feed(b'data: {"error": "it broke"}\n\n'))
    with pytest.raises(ServerError, match="no JSON"):
        list(decoder.feed(b"data: <html>\n\n"))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (CHUNKED, b'data: {"text_output": "a"}\n\n: ping\n\ndata:\n\ndata: {}\n\ndata: [DONE]\n\n'),
        (CHUNKED, b'data: {"text_output": "a", "error": null}\r\r'),
        (CHUNKED, b'{"text_output": "a"}'),
        (ResponseHead(200, {"content-length": "99"}), b'data: {"text_output": "a"}\n\n'),
        (ResponseHead(200, {"content-length": "99"}), b'{"text_output": "a", "score": NaN}'),
    ],
)
def test_other_forms_of_an_answer_over_http(head, body):
    for size in (1, len(body)):
        decoder = generate_call(conversation()).decoder(head)
        pieces = [piece for i in range(0, len(body), size) for piece in decoder.feed(body[i : i + size])]
        assert "".join(piece.text for piece in [*pieces, *decoder.finish()]) == "a"


def test_an_event_that_is_cut_off_over_http():
    decoder = generate_call(conversation()).decoder(CHUNKED)
    list(decoder.feed(b'data: {"text_output": "a"}\n\ndata: {"text_ou'))
    with pytest.raises(StreamInterrupted, match="http://h:1/v2/models/m/generate_stream"):
        list(decoder.finish())
