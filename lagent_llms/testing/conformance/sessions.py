"""Conformance tests of sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ...errors import ModelStatusCode, SessionBusy, SessionClosed, SessionOutOfLimit
from ...schema import Message
from .backend import user
from .requirement import ConformanceTests, requirement

__all__ = ["Sessions"]

TURNS = ("My name is Alice.", "What is the capital of France?", "What is my name?")
OPEN: dict[str, Any] = {"sequence_start": True, "sequence_end": False}
CONTINUE: dict[str, Any] = {"sequence_start": False, "sequence_end": False}
CLOSE: dict[str, Any] = {"sequence_start": False, "sequence_end": True}


class Sessions(ConformanceTests):
    """Tests of sessions."""

    def answer_without_session(self, llm: Any, turns: tuple[str, ...] = TURNS) -> str:
        """The last answer of a dialog whose whole history is sent at every turn."""
        dialog: list[Message] = []
        for text in turns:
            dialog += user(text)
            answer = llm.chat(dialog)
            dialog.append({"role": "assistant", "content": answer})
        return str(answer)

    @requirement("the turns of a session are one dialog")
    def test_turns(self) -> None:
        llm = self.make()
        for text, options in zip(TURNS, (OPEN, CONTINUE, CLOSE), strict=True):
            answer = llm.chat(user(text), session_id=5, **options)
        assert answer == self.answer_without_session(llm)

    @requirement("a session object remembers its turns; saved and loaded, it continues")
    def test_session_objects(self, tmp_path: Path) -> None:
        llm = self.make()
        expected = self.answer_without_session(llm)
        session = llm.of(llm.llm.session())
        for text in TURNS[:2]:
            session.chat(text)
        session.save(tmp_path / "dialog.json")
        session.llm.end()
        assert len(llm.llm.sessions) == 0
        loaded = llm.of(llm.load_session(tmp_path / "dialog.json"))
        assert loaded.chunks("stream_chat", TURNS[2])[-1].text == expected
        assert [message["role"] for message in loaded.llm.messages] == ["user", "assistant"] * 3
        loaded.llm.end()
        with pytest.raises(SessionClosed):
            loaded.chat(TURNS[2])

    @requirement("sessions work in streams")
    def test_streams(self) -> None:
        llm = self.make()
        for text, options in zip(TURNS, (OPEN, CONTINUE, CLOSE), strict=True):
            *_, last = llm.chunks("stream_chat", user(text), session_id=6, **options)
        assert last.text == self.answer_without_session(llm)

    @requirement("a closed or unknown session is refused")
    def test_closed(self) -> None:
        llm = self.make()
        llm.chat(self.subject.question, session_id=5, **OPEN)
        llm.chat(self.subject.question, session_id=5, **CLOSE)
        for session_id in (5, 77):
            with pytest.raises(SessionClosed):
                llm.chat(self.subject.question, session_id=session_id, **CONTINUE)

    @requirement("a cancelled turn leaves the session as it was")
    def test_cancelled_turns(self) -> None:
        llm = self.make()
        llm.chat(user(TURNS[0]), session_id=7, **OPEN)
        with llm.stream("stream_chat", user("My name is Bob."), session_id=7, **CONTINUE) as stream:
            next(iter(stream))
        answer = llm.chat(user(TURNS[2]), session_id=7, **CLOSE)
        assert answer == self.answer_without_session(llm, (TURNS[0], TURNS[2]))

    @requirement("a turn that fails leaves the session as it was")
    def test_failed_turns(self) -> None:
        llm = self.make()
        llm.chat(user(TURNS[0]), session_id=8, **OPEN)
        with pytest.raises(Exception):  # noqa: B017  (any error)
            llm.chat(self.subject.long_question, session_id=8, timeout=1e-6, **CONTINUE)
        answer = llm.chat(user(TURNS[2]), session_id=8, **CLOSE)
        assert answer == self.answer_without_session(llm, (TURNS[0], TURNS[2]))

    @requirement("two calls at once on one open session are refused")
    def test_busy(self) -> None:
        llm = self.make(max_new_tokens=300)
        with llm.stream("stream_chat", self.subject.long_question, session_id=9, **OPEN) as stream:
            next(iter(stream))
            with pytest.raises(SessionBusy):
                llm.chat(self.subject.question, session_id=9, **CONTINUE)

    @requirement("session_len is checked before anything is sent", needs="session_len")
    def test_session_len(self) -> None:
        tokens = self.make().complete(self.subject.question).usage.prompt_tokens
        limit = 3 * tokens + 40
        llm = self.make_for("session_len", session_len=limit, max_new_tokens=40)
        llm.chat(self.subject.question, session_id=10, **OPEN)
        with pytest.raises(SessionOutOfLimit, match=f"session_len={limit}"):
            for _ in range(4):
                llm.chat(self.subject.question, session_id=10, **CONTINUE)
        long = [*self.subject.question * 8]
        chunks = llm.chunks("stream_chat", long, session_id=10, on_error="status", **CLOSE)
        assert [tuple(chunk) for chunk in chunks] == [(ModelStatusCode.SESSION_OUT_OF_LIMIT, "", None)]

    @requirement("stateless calls with one session_id do not disturb each other")
    def test_stateless(self) -> None:
        llm = self.make()
        expected = llm.chat(self.subject.question)
        assert llm.chat([self.subject.question] * 6, session_id=4) == [expected] * 6

    @requirement("generate continues sessions too: the new prompt follows the history")
    def test_prompts(self) -> None:
        llm = self.make(max_new_tokens=12)
        prompt = self.prompt(llm.llm)
        first = llm.complete(prompt, session_id=11, **OPEN)
        second = llm.generate(" And then", session_id=11, **CLOSE)
        history = prompt + first.text + (first.stop_word or "") + " And then"
        assert second == llm.generate(history)
