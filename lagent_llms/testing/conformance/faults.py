"""Conformance tests of answers as servers, gateways and proxies really send them (OpenAI's chat route)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from ...errors import LLMError, StreamInterrupted, TimeoutExceeded
from ...params import Timeout
from .backend import user
from .calling import Caller
from .faulty_server import DONE, FaultyServer, chunk, delta, event, response
from .requirement import ConformanceTests, requirement

__all__ = ["Faults"]

STREAM = response(content_type="text/event-stream")
HELLO = chunk("Hel") + chunk("lo")
WHOLE = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}

#: Bodies of a stream whose text is "Hello": what differs from the usual form -> events.
HARMLESS = {
    "comments": [b": ping\n\n", chunk("Hel"), b":\n\n", chunk("lo"), DONE],
    "empty events": [b"data:\n\n", chunk("Hel"), b"data: \n\n", chunk("lo"), DONE],
    "ping events": [b"event: ping\ndata: {}\n\n", HELLO, b'event: ping\ndata: {"type": "ping"}\n\n', DONE],
    "[DONE] with spaces": [HELLO, chunk(None, "stop"), b"data:  [DONE] \n\n"],
    "no [DONE]": [HELLO, chunk(None, "stop")],
    "no space after the colon": [part.replace(b"data: ", b"data:") for part in (HELLO, DONE)],
    "CRLF": [part.replace(b"\n", b"\r\n") for part in (HELLO, DONE)],
    "CR": [part.replace(b"\n", b"\r") for part in (HELLO, DONE)],
    "a byte order mark": [b"\xef\xbb\xbf" + HELLO, DONE],
    "usage of null": [event({**delta("Hello"), "usage": None}), DONE],
    "usage with null and floats": [
        HELLO,
        event({"choices": [], "usage": {"prompt_tokens": 3.0, "completion_tokens": None}}),
        DONE,
    ],
    "chunks without choices": [event({"id": "x"}), HELLO, event({"choices": None}), DONE],
    "null fields": [chunk(None, role="assistant", content=None, tool_calls=None), HELLO, DONE],
    "a delta of null": [event({"choices": [{"index": 0, "delta": None}]}), HELLO, DONE],
    "content as a list of parts": [chunk(None, content=[{"type": "text", "text": "Hello"}]), DONE],
    "an error of null": [event({**delta("Hello"), "error": None}), DONE],
    "finish_reason in the last text": [chunk("Hel"), chunk("lo", "stop"), event(b"[DONE]")],
    "finish_reason 'eos_token'": [HELLO, chunk(None, "eos_token")],
    "an unknown finish_reason": [HELLO, chunk(None, "the_model_was_happy")],
}
#: Heads under which an event stream is recognized.
HEADS = {
    "no Content-Type": response(content_type=None),
    "Content-Type in capitals": response(content_type="TEXT/EVENT-STREAM; charset=utf-8"),
    "a wrong Content-Type": response(content_type="text/plain"),
}
DEEP = b"[" * 5000 + b"]" * 5000
#: Answers that must fail with an `LLMError`: name -> the parts of the response.
FATAL = {
    "deep JSON": [response(b'{"choices":' + DEEP + b"}")],
    "deep JSON in an event": [STREAM, event(b'{"choices":' + DEEP + b"}")],
    "deep JSON in an error": [response(b'{"error":' + DEEP + b"}", status=500)],
    "no JSON": [response(b"<html>Bad gateway</html>", "text/html")],
    "a redirect": [response(b"moved", status=302, headers="Location: https://elsewhere.test/")],
    "an absurd Retry-After": [response(b"{}", status=429, headers="Retry-After: Wed, 99999999999 Oct 2015")],
    "an odd error body": [response(b'{"detail": [{"loc": 5, "msg": [1]}]}', status=422)],
    "an error in a 200": [response(b'{"error": {"message": "boom", "code": "400"}}')],
    "wrong types": [response(json.dumps({"choices": [{"message": {"content": {"a": 1}}}]}).encode())],
    "not HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "nothing": [],
}
#: Failures that are tried again.
TEMPORARY = {
    "429 with Retry-After": response(b"{}", status=429, headers="Retry-After: 0"),
    "500": response(b"{}", status=500),
    "503": response(b"{}", status=503),
    "a broken connection": b"",
}
#: What ends a stream after the text "Hello", which the error then carries.
BREAKS = {
    "an error event": event({"error": {"message": "CUDA out of memory", "code": 500}}),
    "an error without choices": event({"object": "error", "message": "boom", "code": 500}),
    "an error as text": event({"error": "boom"}),
    "an error beside choices": event({**delta(), "error": {"message": "boom"}}),
    "finish_reason 'error'": chunk(None, "error") + event(b"[DONE]"),
    "the end of the connection": b"",
}


class Faults(ConformanceTests):
    """Tests of odd, broken and late answers; most are only for backends with `BackendUnderTest.connect`."""

    @contextmanager
    def answered(self, parts: Iterable[bytes], first: Iterable[bytes] = ()) -> Iterator[Caller | None]:
        """A caller whose server answers with `parts`, at `first` otherwise; None without a `connect`."""
        with FaultyServer(parts, first) as server:
            llm = self.connect(server.url)
            if llm is None:
                self.outcome = "n/a"
            yield llm

    def text(self, parts: Iterable[bytes]) -> str:
        """The text that the backend reads from a response; 'Hello' if the backend has no `connect`."""
        with self.answered(parts) as llm:
            return "Hello" if llm is None else str(llm.chat(user("hi")))

    @requirement("a harmless deviation in an answer is no reason to fail")
    @pytest.mark.parametrize("name", HARMLESS)
    def test_harmless(self, name: str) -> None:
        assert self.text([STREAM, *HARMLESS[name]]) == "Hello"

    @requirement("an event stream is recognized whatever its Content-Type is, and so is JSON")
    @pytest.mark.parametrize("name", HEADS)
    def test_content_types(self, name: str) -> None:
        assert self.text([HEADS[name], HELLO, DONE]) == "Hello"
        assert self.text([HEADS[name], json.dumps(WHOLE).encode()]) == "Hello"

    @requirement("characters that two packets or two events share are whole")
    def test_cut_packets(self) -> None:
        text = "你好 \N{SLIGHTLY SMILING FACE}"
        body = chunk(text).replace(json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode())
        for parts in ([body], [body[at : at + 1] for at in range(len(body))]):
            with self.answered([STREAM, *parts, DONE]) as llm:
                assert llm is None or llm.chat(user("hi")) == text

    @requirement("parallel tool calls with one index, or without, are two calls")
    @pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["same", "none"])
    def test_parallel_tool_calls(self, index: dict[str, int]) -> None:
        def call(number: int) -> bytes:
            function = {"name": f"f{number}", "arguments": json.dumps({"n": number})}
            return chunk(None, tool_calls=[{**index, "id": f"call-{number}", "function": function}])

        with self.answered([STREAM, call(1), call(2), chunk(None, "tool_calls"), event(b"[DONE]")]) as llm:
            if llm is not None:
                calls = llm.complete(user("hi")).tool_calls
                assert [(item.name, item.arguments, item.id) for item in calls] == [
                    ("f1", {"n": 1}, "call-1"),
                    ("f2", {"n": 2}, "call-2"),
                ]

    @requirement("whatever a server sends fails with an LLMError that pickles")
    @pytest.mark.parametrize("name", FATAL)
    def test_fatal(self, name: str) -> None:
        with self.answered(FATAL[name]) as llm:
            if llm is not None:
                with pytest.raises(LLMError) as caught:
                    llm.chat(user("hi"))
                again = pickle.loads(pickle.dumps(caught.value))
                assert (type(again), str(again)) == (type(caught.value), str(caught.value))

    @requirement("a call that the server refuses for now, or whose connection breaks, is tried again")
    @pytest.mark.parametrize("name", TEMPORARY)
    def test_retries(self, name: str) -> None:
        retry = {"max_retries": 2, "base": 0.001}
        with self.answered([STREAM, HELLO, DONE], [TEMPORARY[name]] * 2) as llm:
            assert llm is None or llm.chat(user("hi"), retry=retry) == "Hello"
        with self.answered([TEMPORARY[name]]) as llm:
            if llm is not None:
                with pytest.raises(LLMError, match=r"after 3 attempts in .*max_retries=2") as caught:
                    llm.chat(user("hi"), retry=retry)
                assert caught.value.attempts == 3

    @requirement("the error of a timeout names the limit, how long it was and the parameter")
    def test_timeouts(self) -> None:
        llm = self.make()
        llm.chat(self.subject.question, max_new_tokens=1)
        with pytest.raises(TimeoutExceeded) as caught:
            llm.chat(self.subject.long_question, timeout=Timeout(first_token=1e-6), retry={"max_retries": 0})
        assert (caught.value.phase, caught.value.seconds) == ("first_token", 1e-6)
        server, _, message = str(caught.value).partition(": no piece of the answer came within 1e-06 s, ")
        assert server
        assert message == "the limit for the first token; timeout=Timeout(first_token=…) changes it"

    @requirement("an error in the middle of a stream carries all text before it")
    @pytest.mark.parametrize("name", BREAKS)
    @pytest.mark.parametrize("stop_words", [[], ["lock"]], ids=["", "held"])
    def test_partial_text(self, name: str, stop_words: list[str]) -> None:
        with self.answered([STREAM, HELLO, BREAKS[name]]) as llm:
            if llm is not None:
                with pytest.raises(LLMError) as caught:
                    llm.chat(user("hi"), stop_words=stop_words)
                assert caught.value.partial == "Hello"
                if name == "the end of the connection":
                    assert isinstance(caught.value, StreamInterrupted)
