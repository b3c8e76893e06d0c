"""Parsing of answers over HTTP, without I/O."""

import pytest

from lagent_llms import ServerError, StreamInterrupted
from lagent_llms.backends.triton import Model, find_dialect
from lagent_llms.backends.triton.http_messages import generate_call
from lagent_llms.backends.triton.model_config import TritonModelConfig
from tests.unit.backends.triton.models import CONFIG, request


def conversation(**given):
    model = Model(TritonModelConfig.from_json(CONFIG), decoupled=True)
    return find_dialect(model).conversation(request(**given), model)


class ResponseHead:
    status = 200

    def __init__(self, **headers):
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    is_event_stream = True


def test_the_end_of_a_streamed_body_over_http():
    call = generate_call(conversation())
    event = b'data: {"text_output": "a"}\n\n'
    whole = call.decoder(ResponseHead(transfer_encoding="chunked"))
    assert list(whole.feed(event)) + [piece.finish_reason for piece in whole.finish()][-1:]
    assert whole.complete
    unmarked = call.decoder(ResponseHead())
    list(unmarked.feed(event))
    with pytest.raises(StreamInterrupted, match="final marker"):
        list(unmarked.finish())


def test_an_error_in_mid_stream_over_http():
    decoder = generate_call(conversation()).decoder(ResponseHead(transfer_encoding="chunked"))
    with pytest.raises(ServerError, match="it broke"):
        list(decoder.feed(b'data: {"error": "it broke"}\n\n'))
    with pytest.raises(ServerError, match="no JSON"):
        list(decoder.feed(b"data: <html>\n\n"))
