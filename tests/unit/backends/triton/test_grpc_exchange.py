"""`GRPCExchange` without I/O: opening, limits, statuses, retries, cancelling."""

from types import SimpleNamespace

import pytest

from lagent_llms import (
    AuthenticationError,
    ConnectError,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.backends.triton import InferRequest, Model, find_dialect
from lagent_llms.backends.triton.conversation import (
    READ_RESPONSE,
    GetModelConfig,
    Infer,
    ListModels,
    OpenStream,
)
from lagent_llms.backends.triton.grpc_commands import (
    READ_MESSAGE,
    CallFailure,
    ChannelState,
    SendCancel,
    ServerLive,
    UnaryCall,
    WaitForCancel,
)
from lagent_llms.backends.triton.grpc_exchange import LIVENESS_TIMEOUT, GRPCExchange, Lookup
from lagent_llms.backends.triton.model_config import TritonModelConfig
from lagent_llms.core import deadline
from lagent_llms.schema import Piece
from tests.unit.backends.triton.models import CONFIG, request

NO_LIMITS = Timeout(connect=None, first_token=None, idle=None, total=None)
REQUEST, STOP = InferRequest("llm", ()), InferRequest("llm", (), "stop")
UNAVAILABLE = CallFailure("UNAVAILABLE", "no connection")
CHECK = UnaryCall(ServerLive(), LIVENESS_TIMEOUT)


class Conversation:
    """Yields given commands; keeps their outcomes and counts its attempts."""

    def __init__(self, *commands, session=None, cancel=None):
        self.server_session, self._commands, self._cancel = session, commands, cancel
        self.attempts, self.outcomes = 0, []

    def steps(self):
        self.attempts += 1
        for command in self._commands:
            self.outcomes.append((yield command))

    def cancel_request(self):
        return self._cancel


def response(text="", *, final=False, error=""):
    """A ModelStreamInferResponse, with one output if there is text."""
    data = len(text.encode()).to_bytes(4, "little") + text.encode()
    message = SimpleNamespace(
        outputs=[SimpleNamespace(name="text_output", datatype="BYTES")] if text else [],
        raw_output_contents=[data] if text else [],
        parameters={"triton_final_response": SimpleNamespace(bool_param=final)},
    )
    return SimpleNamespace(error_message=error, infer_response=message)


@pytest.fixture
def now(monkeypatch):
    """The time of all deadlines; a test sets `now[0]`."""
    time = [1000.0]
    monkeypatch.setattr(deadline.time, "monotonic", lambda: time[0])
    init = deadline.Deadline.__init__
    monkeypatch.setattr(
        deadline.Deadline, "__init__", lambda self, timeout: init(self, timeout, lambda: time[0])
    )
    return time


def make(*commands, timeout=NO_LIMITS, connected=True, **given):
    """A conversation and its exchange."""
    conversation = Conversation(*commands, **given)
    return conversation, GRPCExchange(conversation, ChannelState("host:1", connected), timeout)


def opened(**given):
    """A conversation and its exchange, which has opened the stream and waits for the first message."""
    conversation, exchange = make(OpenStream(REQUEST), READ_RESPONSE, Piece("a"), READ_RESPONSE, **given)
    assert exchange.resume(None) == OpenStream(REQUEST)
    assert exchange.resume(None) is READ_MESSAGE
    return conversation, exchange


# opening


def test_the_connection_is_made_within_its_limit_before_the_stream_opens():
    timeout = Timeout(connect=3, first_token=30, idle=30)
    _, exchange = make(OpenStream(REQUEST), timeout=timeout, connected=False)
    assert exchange.resume(None) == UnaryCall(ServerLive(), 3)
    assert exchange.resume(True) == OpenStream(REQUEST)


@pytest.mark.parametrize(("connect", "connected"), [(3, True), (None, False)])
def test_a_connected_channel_and_one_without_a_connect_limit_open_at_once(connect, connected):
    timeout = Timeout(connect=connect, first_token=30, idle=30)
    _, exchange = make(OpenStream(REQUEST), timeout=timeout, connected=connected)
    assert exchange.resume(None) == OpenStream(REQUEST)


def test_one_exchange_connects_for_all_on_its_channel():
    channel, timeout = ChannelState("host:1"), Timeout(connect=3)
    first = GRPCExchange(Conversation(OpenStream(REQUEST)), channel, timeout)
    assert first.resume(None).command == ServerLive()
    first.resume(True)
    assert GRPCExchange(Conversation(OpenStream(REQUEST)), channel, timeout).resume(None) == OpenStream(
        REQUEST
    )


def test_no_connection_in_time_is_a_connect_timeout():
    timeout = Timeout(connect=3, first_token=30, idle=30)
    _, exchange = make(OpenStream(REQUEST), timeout=timeout, connected=False)
    exchange.resume(None)
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(CallFailure("DEADLINE_EXCEEDED", ""))
    assert (caught.value.phase, caught.value.seconds) == ("connect", 3)


def test_a_server_that_refuses_the_liveness_check_is_connected():
    """An error response proves the connection; the stream is opened and raises its own error."""
    _, exchange = make(OpenStream(REQUEST), timeout=Timeout(connect=3), connected=False)
    exchange.resume(None)
    assert exchange.resume(CallFailure("PERMISSION_DENIED", "")) == OpenStream(REQUEST)


def test_a_pending_cancel_request_of_the_session_comes_first():
    timeout = Timeout(connect=3, first_token=30, idle=30)
    _, exchange = make(OpenStream(REQUEST), timeout=timeout, connected=False, session=7)
    assert exchange.resume(None).command == ServerLive()
    command = exchange.resume(True)
    assert (type(command), command.session) == (WaitForCancel, 7)
    assert 29 < command.timeout <= 30
    assert exchange.resume(None) == OpenStream(REQUEST)


def test_a_cancel_request_that_takes_too_long(now):
    _, exchange = make(OpenStream(REQUEST), timeout=Timeout(connect=None, first_token=5), session=7)
    assert exchange.resume(None) == WaitForCancel(7, 5)
    now[0] += 5
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(None)
    assert caught.value.phase == "first_token"


# unary calls


@pytest.mark.parametrize("command", [GetModelConfig("llm"), ListModels()])
def test_calls_without_a_model_have_the_connect_timeout(command):
    _, exchange = make(command, timeout=Timeout(connect=3, first_token=30, idle=30))
    assert exchange.resume(None) == UnaryCall(command, 3)


def test_model_calls_have_the_first_token_timeout(now):
    _, exchange = make(Infer(REQUEST), timeout=Timeout(connect=3, first_token=30, idle=30))
    assert exchange.resume(None) == UnaryCall(Infer(REQUEST), 30)
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(CallFailure("DEADLINE_EXCEEDED", ""))
    assert caught.value.phase == "first_token"


def test_the_shorter_limit_counts(now):
    _, exchange = make(ListModels(), timeout=Timeout(connect=3, first_token=2))
    assert exchange.resume(None) == UnaryCall(ListModels(), 2)
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(CallFailure("DEADLINE_EXCEEDED", ""))
    assert caught.value.phase == "first_token"


def test_no_call_after_the_deadline(now):
    _, exchange = make(ListModels(), Infer(REQUEST), timeout=Timeout(connect=None, total=4))
    exchange.resume(None)
    now[0] += 4
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume([])
    assert caught.value.phase == "total"


def test_server_side_deadline_is_a_server_error():
    _, exchange = make(Infer(REQUEST))
    assert exchange.resume(None) == UnaryCall(Infer(REQUEST), None)
    with pytest.raises(ServerError) as caught:
        exchange.resume(CallFailure("DEADLINE_EXCEEDED", "queue"))
    assert caught.value.status_code == 504


def test_a_lookup_has_a_result_and_no_cancel_request():
    def steps():
        return (yield ListModels()) + ["more"]

    exchange = GRPCExchange(Lookup(steps()), ChannelState("host:1"), NO_LIMITS)
    assert exchange.resume(None) == UnaryCall(ListModels(), None)
    with pytest.raises(StopIteration):
        exchange.resume(["llm"])
    assert exchange.result == ["llm", "more"]
    assert exchange.release() is None


# reading, and the end of a stream


def test_responses_reach_the_conversation_up_to_the_final_marker():
    conversation, exchange = opened()
    assert exchange.resume(response("hi")) == Piece("a")
    assert exchange.resume(None) is READ_MESSAGE
    assert exchange.resume(response(final=True)) is READ_MESSAGE  # no outputs: no piece
    with pytest.raises(StopIteration):
        exchange.resume(None)
    assert conversation.outcomes[1].text("text_output") == "hi"
    assert conversation.outcomes[3] is None


@pytest.mark.parametrize("messages", [[], [response("hi")]])
def test_a_stream_without_final_marker_is_interrupted(messages):
    _, exchange = opened()
    for message in messages:
        exchange.resume(message)
        exchange.resume(None)
    with pytest.raises(StreamInterrupted, match="without its final marker"):
        exchange.resume(None)


@pytest.mark.parametrize("end", [None, CallFailure("UNAVAILABLE", "gone")])
def test_an_error_in_the_stream_is_raised_once_the_stream_has_ended(end):
    _, exchange = opened()
    assert exchange.resume(response(error="it broke")) is READ_MESSAGE
    assert exchange.resume(response(final=True)) is READ_MESSAGE
    with pytest.raises(ServerError, match="host:1: it broke"):
        exchange.resume(end)


def test_an_output_without_data():
    message = response("hi")
    message.infer_response.raw_output_contents.clear()
    conversation, exchange = opened()
    exchange.resume(message)
    for read in (conversation.outcomes[1].text, conversation.outcomes[1].values):
        with pytest.raises(ServerError, match="no data for output 0"):
            read("text_output")


# statuses


@pytest.mark.parametrize(
    ("code", "error", "status"),
    [
        ("INVALID_ARGUMENT", ServerError, 400),
        ("UNAUTHENTICATED", AuthenticationError, 401),
        ("PERMISSION_DENIED", AuthenticationError, 403),
        ("NOT_FOUND", NotFound, 404),
        ("ABORTED", ServerError, 409),
        ("RESOURCE_EXHAUSTED", RateLimited, 429),
        ("CANCELLED", ServerError, 499),
        ("INTERNAL", ServerError, 500),
        ("DATA_LOSS", ServerError, 500),
        ("DEADLINE_EXCEEDED", ServerError, 504),
    ],
)
def test_status_sent_only_by_servers_is_a_server_error(code, error, status):
    _, exchange = opened()
    with pytest.raises(error) as caught:
        exchange.resume(CallFailure(code, "words"))
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("live", [True, False, UNAVAILABLE])
def test_an_ambiguous_status_is_resolved_by_a_liveness_check(code, begun, live):
    _, exchange = opened()
    if begun:
        exchange.resume(response("hi"))
        exchange.resume(None)
    assert exchange.resume(CallFailure(code, "words")) == CHECK
    expected = ServerError if live is True else StreamInterrupted if begun else ConnectError
    with pytest.raises(expected):
        exchange.resume(live)


def test_lost_server_is_reconnected():
    timeout = Timeout(connect=3)
    channel = ChannelState("host:1", connected=True)
    exchange = GRPCExchange(Conversation(OpenStream(REQUEST), READ_RESPONSE), channel, timeout)
    exchange.resume(None)
    exchange.resume(None)
    exchange.resume(UNAVAILABLE)
    with pytest.raises(ConnectError):
        exchange.resume(False)
    again = GRPCExchange(Conversation(OpenStream(REQUEST)), channel, timeout)
    assert again.resume(None) == UnaryCall(ServerLive(), 3)


def test_closed_channel_raises_stream_interrupted():
    _, exchange = opened()
    with pytest.raises(StreamInterrupted, match="the channel to host:1 is closed"):
        exchange.resume(CallFailure(None, "Channel closed!"))
    _, exchange = opened()
    exchange._channel.closed = True
    with pytest.raises(StreamInterrupted, match="is closed"):
        exchange.resume(CallFailure("CANCELLED", "Channel closed!"))
    _, exchange = make(OpenStream(REQUEST))
    exchange.resume(None)
    with pytest.raises(StreamInterrupted, match="is closed"):
        exchange.resume(CallFailure(None, "Channel closed!"))


# deadlines of a stream


def test_an_expired_stream_is_a_timeout_of_its_phase(now):
    timeout = Timeout(connect=None, first_token=5, idle=2)
    _, exchange = opened(timeout=timeout)
    assert exchange.deadline.remaining() == 5
    now[0] += 5
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(CallFailure("CANCELLED", "", expired=True))
    assert caught.value.phase == "first_token"
    _, exchange = opened(timeout=timeout)
    assert exchange.resume(response("hi")) == Piece("a")
    now[0] += 60  # a slow caller: not counted as server time
    assert exchange.deadline.remaining() is None
    exchange.resume(None)
    assert exchange.deadline.remaining() == 2
    now[0] += 2
    with pytest.raises(TimeoutExceeded) as caught:
        exchange.resume(CallFailure(None, "", expired=True))
    assert caught.value.phase == "idle"


@pytest.mark.parametrize(
    ("failure", "kind"), [(CallFailure("RESOURCE_EXHAUSTED", "busy"), RateLimited), (None, StreamInterrupted)]
)
def test_a_failure_ends_the_exchange(failure, kind):
    conversation, exchange = opened()
    with pytest.raises(kind):
        exchange.resume(failure)
    assert conversation.attempts == 1


def test_the_limit_of_the_first_token_starts_when_the_request_is_sent(now):
    timeout = Timeout(connect=3, first_token=5, idle=5)
    _, exchange = make(OpenStream(REQUEST), READ_RESPONSE, timeout=timeout, connected=False)
    assert exchange.resume(None) == UnaryCall(ServerLive(), 3)
    now[0] += 2
    assert exchange.resume(True) == OpenStream(REQUEST)
    assert exchange.deadline.remaining() == 5
    assert exchange.resume(None) is READ_MESSAGE
    now[0] += 5
    with pytest.raises(
        TimeoutExceeded, match=r"host:1: no piece .* within 5 s.*timeout=Timeout\(first_token=…\)"
    ):
        exchange.resume(CallFailure(None, "", expired=True))


# closing and cancelling


def test_closed_exchange_returns_no_command():
    _, exchange = opened()
    exchange.closed = True
    with pytest.raises(StreamInterrupted, match="was closed"):
        exchange.resume(response("hi"))


def test_no_liveness_check_after_close():
    _, exchange = make(Infer(REQUEST))
    exchange.resume(None)
    exchange.closed = True
    with pytest.raises(StreamInterrupted, match="was closed"):
        exchange.resume(UNAVAILABLE)


@pytest.mark.parametrize("session", [7, None])
def test_release_returns_the_cancel_request_once(session):
    conversation, exchange = opened() if session is None else make(OpenStream(REQUEST), session=session)
    conversation._cancel = STOP
    assert exchange.release() == SendCancel(STOP, session)
    assert exchange.release() is None
    with pytest.raises(StreamInterrupted):
        exchange.resume(None)


def test_release_without_a_cancel_request():
    _, exchange = opened()
    assert exchange.release() is None
    assert exchange.closed


def test_a_release_from_within_a_step_ends_it():
    """A finalizer may run in the middle of a step, in the same thread."""
    exchange = None

    class Releasing(Conversation):
        def steps(self):
            exchange.release()
            yield OpenStream(REQUEST)
            raise AssertionError

    exchange = GRPCExchange(Releasing(), ChannelState("host:1", connected=True), NO_LIMITS)
    assert exchange.resume(None) == OpenStream(REQUEST)
    with pytest.raises(StreamInterrupted, match="was closed"):
        exchange.resume(None)


# with a dialect


def dialect_exchange():
    model = Model(TritonModelConfig.from_json(CONFIG), decoupled=True)
    conversation = find_dialect(model).conversation(request(), model)
    return GRPCExchange(conversation, ChannelState("host:1", connected=True), NO_LIMITS)


def test_dialect_answer_that_breaks():
    exchange = dialect_exchange()
    assert isinstance(exchange.resume(None), OpenStream)
    assert exchange.resume(None) is READ_MESSAGE
    assert exchange.resume(response("a")) == Piece("a")
    assert exchange.resume(None) is READ_MESSAGE
    assert exchange.resume(UNAVAILABLE) == CHECK
    with pytest.raises(StreamInterrupted):
        exchange.resume(False)
