"""Faults between a client and a server: each is a typed error, and nothing is left running."""

import asyncio
import http.server
import os
import pickle
import signal
import socket
import subprocess
import threading
import time

import pytest

from lagent_llms import (
    AsyncTritonClient,
    BatchError,
    ConfigError,
    ConnectError,
    InvalidArgument,
    LLMError,
    ModelStatusCode,
    NotFound,
    ServerError,
    SessionOutOfLimit,
    StreamInterrupted,
    TimeoutExceeded,
    TransportError,
    UnsupportedParameter,
)
from lagent_llms.child.ports import check_port
from lagent_llms.params import Timeout
from tests import triton_peer
from tests.triton_peer import until, wait_until

SLOW = "[[tokens 1000]] [[slow 0.02]]"


@pytest.fixture
def unused_address():
    """An address without a listening server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def web_server():
    """The address of a plain HTTP server, which is not a Triton server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# addresses


@pytest.mark.parametrize("prefix", ["", "http://"])
def test_no_server(make, unused_address, prefix):
    with pytest.raises(ConnectError, match="127.0.0.1"):
        make(prefix + unused_address, "trtllm", max_retries=0).generate("hi")


@pytest.mark.parametrize("prefix", ["", "http://"])
def test_a_connection_is_retried(make, unused_address, prefix):
    with pytest.raises(ConnectError, match=r"after 2 attempts in .*RetryPolicy\(max_retries=1\)"):
        make(prefix + unused_address, "trtllm", retry={"max_retries": 1, "base": 0.01}).generate("hi")


def test_a_busy_model_is_retried(make, peer):
    llm = make(peer.grpc, "trtllm-whole")
    with pytest.raises(ServerError, match=r"after 3 attempts in .*RetryPolicy\(max_retries=2\)") as caught:
        llm.generate("[[error 0 UNAVAILABLE]]", retry={"max_retries": 2, "base": 0.01})
    assert (caught.value.status_code, caught.value.attempts) == (503, 3)


def test_a_timeout_names_its_limit_and_is_retried(make, peer):
    llm = make(peer.grpc, "trtllm-whole")
    with pytest.raises(
        TimeoutExceeded, match=r"within 0.3 s, the limit for the first token.*after 2 att"
    ) as caught:
        llm.generate("[[first 3]]", timeout=0.3, retry={"max_retries": 1, "base": 0.01})
    assert str(caught.value).startswith(f"{peer.grpc}: ")


@pytest.mark.parametrize("prefix", ["", "http://"])
def test_web_server_that_is_not_triton(make, web_server, prefix):
    with pytest.raises((ConnectError, ServerError)):
        make(prefix + web_server, "trtllm", max_retries=0).generate("hi")


def test_http_url_with_the_grpc_port(make, peer):
    with pytest.raises((TransportError, ServerError, StreamInterrupted)):
        make(f"http://{peer.grpc}", "trtllm", max_retries=0).generate("hi")


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "ftp://127.0.0.1:1", "127.0.0.1:x", "h:0", None, "h:1/path"]
)
def test_no_address(make, address):
    with pytest.raises(InvalidArgument, match="tritonserver_addr="):
        make(address, "trtllm")


def test_no_response_in_time(make):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        with pytest.raises((TimeoutExceeded, ConnectError)) as caught:
            llm = make(f"127.0.0.1:{silent.getsockname()[1]}", "trtllm", max_retries=0, timeout=1)
            llm.generate("hi")
        if isinstance(caught.value, TimeoutExceeded):
            assert caught.value.phase in ("connect", "first_token")


def test_no_response_in_time_when_the_model_is_known(make, peer):
    """A stream has no connect limit of its own: the channel connects first."""
    known = make(peer.grpc, "trtllm-scripted")
    assert known.dialect_found() == "trtllm"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        llm = make(address, max_retries=0, timeout=Timeout(connect=0.5, first_token=10))
        llm.llm.finder = known.llm.finder
        with pytest.raises(TimeoutExceeded) as caught:
            llm.generate("hi")
    assert (caught.value.phase, caught.value.seconds) == ("connect", 0.5)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key of a server called 'triton.test'."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=triton.test", "-addext", "subjectAltName=DNS:triton.test,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def secure(certificate):
    cert, key = certificate
    flags = ["--grpc-use-ssl=true", f"--grpc-server-cert={cert}", f"--grpc-server-key={key}"]
    with triton_peer.served(["trtllm-scripted"], flags=flags) as peer:
        yield peer


def test_tls(make, secure, certificate):
    cert, _ = certificate
    llm = make(f"grpcs://{secure.grpc}", "trtllm-scripted", verify=cert)
    assert llm.generate("[[say safe]]") == "safe"
    named = make(f"grpcs://{secure.grpc}", "trtllm-scripted", verify=cert, server_name="triton.test")
    assert named.generate("[[say named]]") == "named"


def test_tls_mismatches(make, secure, peer, certificate, tmp_path):
    cert, _ = certificate
    for address, options in (
        (f"grpcs://{secure.grpc}", {}),  # an untrusted certificate
        (f"grpcs://{secure.grpc}", {"verify": cert, "server_name": "other.test"}),
        (secure.grpc, {}),  # plain text to a server with TLS
        (f"grpcs://{peer.grpc}", {"verify": cert}),  # TLS to a server without TLS
    ):
        with pytest.raises(ConnectError):
            make(address, "trtllm-scripted", max_retries=0, **options).generate("hi")
    with pytest.raises(ConfigError, match="cannot be read"):
        make(f"grpcs://{secure.grpc}", "trtllm-scripted", verify=tmp_path / "none.pem").generate("hi")
    with pytest.raises(InvalidArgument, match="verify=False"):
        make(f"grpcs://{secure.grpc}", "trtllm-scripted", verify=False)


def test_headers_and_key_are_sent(make):
    """tritonserver restricts a protocol to requests with the right header."""
    flags = ["--grpc-restricted-protocol=inference,model-repository:authorization=Bearer sk-right"]
    with triton_peer.served(["trtllm-scripted"], flags=flags) as peer:
        with pytest.raises(ServerError):
            make(peer.grpc, "trtllm-scripted", max_retries=0).generate("[[say hello]]")
        assert repr(make(peer.grpc, "x", api_key="sk-right")).count("sk-right") == 0
        headers = {"triton-grpc-protocol-authorization": "Bearer sk-right"}
        assert make(peer.grpc, "trtllm-scripted", headers=headers).generate("[[say hello]]") == "hello"


def test_restricted_model_repository(make):
    flags = ["--grpc-restricted-protocol=model-repository:authorization=Bearer sk-right"]
    with triton_peer.served(["trtllm-scripted"], flags=flags) as peer:
        assert make(peer.grpc, "trtllm-scripted", max_retries=0).generate("[[say hello]]") == "hello"
        with pytest.raises(ServerError):
            make(peer.grpc, "nothing", max_retries=0).generate("hi")


# models


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_an_unknown_model(make, server):
    with triton_peer.served(["trtllm-scripted", "llmapi"]) as peer:
        with pytest.raises(NotFound, match="no model 'nothing'; it has llmapi, trtllm-scripted") as caught:
            make(getattr(peer, server), "nothing").generate("hi")
        assert caught.value.status_code == 404


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_a_model_that_could_not_be_loaded(make, peer, server):
    with pytest.raises(ServerError, match=r"'broken' is UNAVAILABLE: .*No module named") as caught:
        make(getattr(peer, server), "broken", max_retries=0).generate("hi")
    assert (caught.value.status_code, caught.value.code) == (503, "UNAVAILABLE")


def test_readiness(make, peer, unused_address):
    llm = make(peer.grpc, "trtllm-scripted")
    assert llm.wait_ready() is None
    assert "trtllm-scripted" in llm.models()
    assert "broken" not in llm.models()
    assert make(peer.http, "trtllm-scripted").models() == llm.models()
    with pytest.raises(NotFound):
        make(peer.grpc, "nothing", dialect="vllm").wait_ready(30)
    with pytest.raises(TimeoutExceeded, match="was not ready within 0.3 s: cannot connect") as caught:
        make(unused_address, "trtllm").wait_ready(0.3)
    assert caught.value.phase == "total"


def test_a_closed_client_sends_nothing(make, peer, unused_address):
    for address in (peer.grpc, peer.http, unused_address):
        llm = make(address, "trtllm-scripted")
        llm.aclose() if llm.asynchronous else llm.llm.close()
        for method in (llm.models, llm.dialect_found, llm.wait_ready):
            with pytest.raises(LLMError, match="is closed"):
                method()
        assert "transport" not in vars(llm.llm)


def test_wait_ready_for_a_starting_server(make):
    port = check_port("127.0.0.1", 0)
    llm = make(f"127.0.0.1:{port}", "trtllm-scripted")
    waiting = threading.Thread(target=llm.wait_ready, args=(60,))
    waiting.start()
    with triton_peer.served(["trtllm-scripted"], grpc_port=port):
        waiting.join(60)
        assert not waiting.is_alive()
        assert llm.generate("[[say there]]") == "there"


# input


def test_bad_input(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted")
    with pytest.raises(InvalidArgument, match="the prompt is empty"):
        llm.generate("")
    for session_id in ("1", 1.5, None.__class__, -1, True):
        with pytest.raises(InvalidArgument, match="session_id="):
            llm.generate("hi", session_id=session_id)
    for tokenizer in (7, object()):
        with pytest.raises(InvalidArgument, match="tokenizer="):
            make(peer.grpc, "trtllm", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="no such file"):
        make(peer.grpc, "trtllm", tokenizer="/nowhere")
    assert events() == []


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_values_too_large_for_the_model(make, peer, events, server):
    llm = make(getattr(peer, server), "trtllm-scripted")
    with pytest.raises(InvalidArgument, match="max_tokens=1099511627776: the model's input is INT32"):
        llm.generate("hi", max_new_tokens=2**40)
    assert events() == []


def test_bad_headers(make, peer):
    for headers in ({"bad name": "x"}, {"x": "a\nb"}, {"x": 5}):
        for address in (peer.grpc, peer.http):
            with pytest.raises(InvalidArgument, match="headers: "):
                make(address, "trtllm", headers=headers)
    for headers in ({"x": "ä"}, {"x-bin": "y"}, {"x!": "y"}):
        with pytest.raises(InvalidArgument, match="cannot be sent over gRPC"):
            make(peer.grpc, "trtllm", headers=headers)
        assert make(peer.http, "trtllm-scripted", headers=headers).generate("[[say ok]]") == "ok"
    with pytest.raises(InvalidArgument, match="headers: "):
        make(peer.grpc, "trtllm", api_key="two\nlines")


def test_session_len_needs_a_token_count(make, peer, events):
    """The peer has the tokenizing model `preprocessing`; a server without it needs `tokenizer=`."""
    with pytest.raises(SessionOutOfLimit, match="81 tokens"):
        make(peer.grpc, "vllm-scripted", session_len=100, max_new_tokens=40).generate("x" * 80)
    with triton_peer.served(["vllm-scripted"]) as alone:
        _check_token_count_required(make, alone)


def _check_token_count_required(make, peer):
    alone = make(peer.grpc, "vllm-scripted", session_len=100, max_new_tokens=40)
    assert alone.generate("[[say fits whatever it counts]]") == "fits whatever it counts"
    with pytest.raises(UnsupportedParameter, match=r"tokenizer=…"):
        alone.generate("x" * 80)

    class Words:
        def encode(self, text):
            return text.split()

    counting = make(peer.grpc, "vllm-scripted", session_len=100, max_new_tokens=40, tokenizer=Words())
    assert counting.generate("[[say ok]]" + "x" * 80) == "ok"
    seen = len(peer.events("begin"))
    with pytest.raises(SessionOutOfLimit, match="61 tokens .* session_len=100"):
        counting.generate("x " * 61)
    assert len(peer.events("begin")) == seen


# errors of the model


@pytest.mark.parametrize(
    "model", ["trtllm-scripted", "vllm-scripted", "lmdeploy_model", "llmapi", "ensemble"]
)
@pytest.mark.parametrize("at", [0, 3])
def test_an_error_from_the_model(make, peer, model, at):
    llm = make(peer.grpc, model)
    with pytest.raises(ServerError, match="the model was told to fail") as caught:
        llm.generate(f"[[tokens 9]] [[error {at}]]")
    assert caught.value.partial == "".join(f"t{n} " for n in range(at))
    assert llm.generate("[[say fine]]") == "fine"


@pytest.mark.parametrize("at", [0, 3])
def test_an_error_from_the_model_over_http(make, peer, at):
    llm = make(peer.http, "trtllm-scripted")
    with pytest.raises(ServerError, match="the model was told to fail") as caught:
        llm.generate(f"[[tokens 9]] [[error {at}]]")
    assert caught.value.partial == "".join(f"t{n} " for n in range(at))


@pytest.mark.parametrize("at", [0, 3])
def test_exception_in_model_code(make, peer, at):
    llm = make(peer.grpc, "trtllm-scripted")
    with pytest.raises(ServerError, match="RuntimeError: a bug in the model") as caught:
        llm.generate(f"[[tokens 9]] [[raise {at}]]")
    assert pickle.loads(pickle.dumps(caught.value)).partial == caught.value.partial


def test_an_error_with_its_code_where_there_is_one(make, peer):
    with pytest.raises(ServerError) as caught:
        make(peer.grpc, "trtllm-whole", max_retries=0).generate("[[error 0 UNAVAILABLE]]")
    assert (caught.value.code, caught.value.status_code) == ("UNAVAILABLE", 503)


def test_a_missing_input(make, peer, monkeypatch):
    from lagent_llms.backends.triton.inputs import RequestInputs

    def prompt_only(self):
        return tuple(tensor for tensor in self._tensors if tensor.name == "text_input")

    monkeypatch.setattr(RequestInputs, "tensors", property(prompt_only))
    for server in (peer.grpc, peer.http):
        with pytest.raises(ServerError, match="expected .*inputs but got 1|input"):
            make(server, "trtllm-scripted", max_retries=0).generate("hi")


def test_on_error_status(make, peer):
    llm = make(peer.grpc, "trtllm-scripted")
    with llm.stream("stream_generate", "[[tokens 9]] [[error 2]]", on_error="status") as stream:
        chunks = list(stream)
    assert tuple(chunks[-1])[:2] == (ModelStatusCode.SERVER_ERR, "t0 t1 ")


def test_one_bad_prompt_of_many(make, peer):
    with pytest.raises(BatchError) as caught:
        make(peer.grpc, "trtllm-scripted").generate(["[[say a]]", "[[error 0]]", "[[say c]]"])
    assert (caught.value.index, caught.value.results[0], caught.value.results[2]) == (1, "a", "c")


# time


@pytest.mark.parametrize("server", ["grpc", "http"])
def test_deadlines(make, peer, events, server):
    llm = make(getattr(peer, server), "trtllm-scripted", max_retries=0)
    llm.generate("[[say warm]]")  # connect first: not part of the measurement
    with pytest.raises(TimeoutExceeded) as first:
        llm.generate("[[hang 0]]", timeout=1)
    with pytest.raises(TimeoutExceeded) as later:
        llm.generate("[[tokens 9]] [[hang 2]]", timeout=1)
    assert (first.value.phase, later.value.phase) == ("first_token", "idle")
    assert later.value.partial == "t0 t1 "
    # Over HTTP the server does not notice that a client has closed before the first response.
    seen = ["done"] + ["cancelled"] * (2 if server == "grpc" else 1)
    assert wait_until(lambda: [event["why"] for event in events("end")] == seen)


def test_deadline_of_a_model_with_one_response(make, peer):
    with pytest.raises(TimeoutExceeded) as caught:
        make(peer.grpc, "trtllm-whole", max_retries=0).generate("[[first 3]]", timeout=0.3)
    assert caught.value.phase == "first_token"


# closing


@pytest.mark.parametrize("model", ["trtllm-scripted", "vllm-scripted", "llmapi"])
def test_the_model_sees_that_a_stream_was_closed(make, peer, events, model):
    llm = make(peer.grpc, model, max_new_tokens=1000)
    with llm.stream("stream_generate", SLOW) as stream:
        next(iter(stream))
    assert wait_until(lambda: [event["why"] for event in events("end")] == ["cancelled"])


def test_a_stop_word_ends_the_generation(make, peer, events):
    llm = make(peer.grpc, "vllm-scripted", max_new_tokens=1000)
    assert llm.generate(SLOW, stop_words=["t3"]) == "t0 t1 t2 "
    assert wait_until(lambda: events("end"))
    assert events("end")[0]["tokens"] < 1000


async def test_cancelling_the_task_cancels_the_model(peer, events):
    llm = AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000)
    task = asyncio.create_task(llm.generate(SLOW))
    await until(lambda: events("begin"), task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: events("end"))
    assert events("end")[0]["why"] == "cancelled"
    await llm.aclose()


def test_closing_from_another_thread(make, peer, events):
    llm = make(peer.grpc, "trtllm-scripted", max_new_tokens=1000)
    if llm.asynchronous:
        return
    stream = llm.llm.stream_generate("[[tokens 9]] [[hang 1]]")
    assert next(stream).delta == "t0 "
    threading.Timer(0.3, stream.close).start()
    assert list(stream) == []
    assert wait_until(lambda: [event["why"] for event in events("end")] == ["cancelled"])


# a killed server


@pytest.mark.parametrize("prefix", ["grpc", "http"])
def test_server_killed_mid_stream(make, killable_server, prefix):
    llm = make(getattr(killable_server, prefix), "trtllm-scripted", max_new_tokens=1000)
    with llm.stream("stream_generate", SLOW) as stream:
        steps = iter(stream)
        next(steps)
        next(steps)
        os.kill(killable_server.pid, signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(StreamInterrupted) as caught:
            for _ in steps:
                pass
    assert caught.value.partial.startswith("t0 t1 ")
    assert time.monotonic() - killed < 5  # one second is documented; the machine may be busy
    assert wait_until(lambda: killable_server.child.ended() is not None)
    with pytest.raises(ConnectError):
        make(getattr(killable_server, prefix), "trtllm-scripted", max_retries=0).generate("hi")


def test_restarted_server_is_reconnected(make):
    with triton_peer.served(["trtllm-scripted"]) as first:
        llm = make(first.grpc, "trtllm-scripted")
        assert llm.generate("[[say one]]") == "one"
    port = int(first.grpc.rpartition(":")[2])
    with triton_peer.served(["trtllm-scripted"], grpc_port=port):
        llm.wait_ready(30)
        assert wait_until(lambda: _answers(llm))


def _answers(llm):
    try:
        return llm.generate("[[say two]]") == "two"
    except ConnectError:  # the channel has not reconnected yet
        return False


def test_slow_reader_does_not_expire_the_idle_timeout(make, peer):
    llm = make(peer.grpc, "trtllm-scripted", timeout=2)
    with llm.stream("stream_generate", "[[tokens 5]]") as stream:
        texts = []
        for chunk in stream:
            texts.append(chunk.delta)
            if len(texts) == 2:
                time.sleep(3)
    assert "".join(texts) == "t0 t1 t2 t3 t4 "


def test_a_batch_at_a_model_with_one_instance_loses_nothing(make, peer):
    """All prompts in flight would wait for 8 s; the limit is that of some of them."""
    llm = make(peer.grpc, "trtllm-whole", timeout=Timeout(first_token=2))
    prompts = [f"[[first 0.25]] [[say {number}]]" for number in range(32)]
    assert llm.generate(prompts) == [str(number) for number in range(32)]
