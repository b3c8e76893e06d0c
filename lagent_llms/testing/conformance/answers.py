"""Conformance tests of whole answers, parameters and batches."""

from __future__ import annotations

import inspect
import pickle
import re
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

import pytest

from ...errors import BatchError, InvalidArgument, LLMError, UnknownParameter, UnsupportedParameter
from ...params import ALIASES
from .backend import user
from .calling import Caller
from .requirement import EFFECTIVE_VALUES, ConformanceTests, requirement

__all__ = ["Answers", "Batches", "Parameters"]


@dataclass
class _Checked:
    ok: bool
    n: Literal[7, 12]


class Answers(ConformanceTests):
    """Tests of one answer."""

    @requirement("chat answers messages; complete returns the same answer with its metadata")
    def test_complete(self) -> None:
        llm = self.make()
        answer = llm.complete(self.subject.question)
        assert answer.text
        assert answer.text == llm.chat(self.subject.question)
        assert answer.finish_reason == "stop"
        assert answer.usage.completion_tokens > 2
        assert answer.usage.prompt_tokens > 2
        assert len(answer.token_ids) in (0, answer.usage.completion_tokens)  # not every server reports them

    @requirement("generate takes the prompt as it is")
    def test_generate(self) -> None:
        llm = self.make()
        prompt = self.prompt(llm.llm)
        words = llm.llm.template.stop_words if llm.llm.template else ()
        answer = llm.generate(prompt, stop_words=words)
        assert isinstance(answer, str)
        assert answer == llm.complete(prompt, stop_words=words).text
        if llm.llm.template is not None:
            assert answer == llm.chat(self.subject.question)

    @requirement("temperature=0 is greedy: the same answer every time")
    def test_greedy(self) -> None:
        llm = self.make(top_k=None, top_p=1)
        answers = {llm.chat(self.subject.long_question) for _ in range(3)}
        assert len(answers) == 1

    @requirement("a string is a user message for chat")
    def test_a_string_is_a_user_message(self) -> None:
        llm = self.make()
        assert llm.chat("Hello") == llm.chat(user("Hello"))

    @requirement("threads may share an object")
    def test_threads(self) -> None:
        llm = self.make()
        expected = llm.chat(self.subject.question)
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(llm.chat(self.subject.question)))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [expected] * 12

    @requirement("no repr and no error shows a secret")
    def test_secrets(self) -> None:
        known = type(self.make().llm).constructor_names()
        given = {name: value for name, value in self.subject.secrets.items() if name in known}
        llm = self.make(**given, timeout=1e-6)
        with pytest.raises(LLMError) as caught:
            llm.chat(self.subject.question)
        text = "".join((repr(llm.llm), str(llm.llm), str(caught.value), repr(caught.value)))
        assert not [value for value in given.values() if str(value) in text]

    @requirement("the synchronous and the asynchronous class take the same arguments")
    def test_twins(self) -> None:
        cls, twin = type(self.make().llm), type(self.make_twin().llm)
        assert cls.constructor_names() == twin.constructor_names()
        assert cls.unsupported_names() == twin.unsupported_names()
        for name in ("generate", "chat", "complete", "stream_chat", "stream_generate", "tokenize"):
            here, there = (inspect.signature(getattr(one, name)).parameters for one in (cls, twin))
            assert list(here) == list(there), name

    @requirement("a content in parts of text is that text; an image that cannot be sent is refused by name")
    def test_content_parts(self) -> None:
        question = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            for message in self.subject.question
        ]
        llm = self.make()
        assert llm.chat(question) == llm.chat(self.subject.question)
        template = self.subject.defaults.get("meta_template") or "chatml"
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        refused = r"inputs\[0\].* cannot send content\[0\], a part of type 'image_url': it takes text only"
        with pytest.raises(UnsupportedParameter, match=refused):
            self.make(meta_template=template).chat([{"role": "user", "content": [image]}])


class Parameters(ConformanceTests):
    """Tests of parameters: honoured or refused, never dropped."""

    @requirement("max_new_tokens is exact")
    def test_max_new_tokens(self) -> None:
        answer = self.make().complete(self.subject.long_question, max_new_tokens=7)
        assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 7)

    @requirement("ignore_eos continues after the end token", needs="ignore_eos")
    def test_ignore_eos(self) -> None:
        answer = self.make().complete(self.subject.question, ignore_eos=True, max_new_tokens=40)
        assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 40)

    @requirement("seed makes sampling repeatable", needs="seed")
    def test_seed(self) -> None:
        llm = self.make(temperature=2, top_k=None, top_p=1)
        texts = [llm.chat(self.subject.long_question, seed=seed) for seed in (1, 1, 2, 3)]
        assert texts[0] == texts[1]
        assert len(set(texts)) > 1

    @requirement("top_k=1 takes the best token", needs="top_k")
    def test_top_k(self) -> None:
        self._only_the_best_token(top_k=1)

    @requirement("a tiny top_p takes the best token", needs="top_p")
    def test_top_p(self) -> None:
        self._only_the_best_token(top_p=1e-6)

    @requirement("min_p=1 takes the best token", needs="min_p")
    def test_min_p(self) -> None:
        self._only_the_best_token(min_p=1)

    def _only_the_best_token(self, **parameter: float) -> None:
        llm = self.make()
        sampling = {"temperature": 2.0, "top_k": None, "top_p": 1}
        assert llm.chat(self.subject.question, **{**sampling, **parameter}) == llm.chat(self.subject.question)

    @requirement("repetition_penalty makes repeating less likely", needs="repetition_penalty")
    def test_repetition_penalty(self) -> None:
        llm = self.make()
        plain = llm.chat(self.subject.long_question)
        assert llm.chat(self.subject.long_question, repetition_penalty=8.0) != plain

    @requirement("frequency_penalty makes repeating less likely", needs="frequency_penalty")
    def test_frequency_penalty(self) -> None:
        llm = self.make()
        plain = llm.chat(self.subject.long_question)
        assert llm.chat(self.subject.long_question, frequency_penalty=2) != plain
        assert llm.chat(self.subject.long_question, frequency_penalty=0) == plain

    @requirement("presence_penalty makes repeating less likely", needs="presence_penalty")
    def test_presence_penalty(self) -> None:
        llm = self.make(temperature=2, top_k=None, top_p=1)
        seeds = [{"seed": seed} for seed in (1, 2, 3, 4)] if self.honours("seed") else [{}]
        plain, same, penalized = (
            [llm.chat(self.subject.long_question, presence_penalty=penalty, **seed) for seed in seeds]
            for penalty in (None, 0, 2)
        )
        assert plain == same or seeds == [{}]
        assert plain != penalized

    @requirement("min_new_tokens puts off the end of an answer", needs="min_new_tokens")
    def test_min_new_tokens(self) -> None:
        llm = self.make_for("min_new_tokens", max_new_tokens=40)
        assert llm.complete(self.subject.question).usage.completion_tokens < 30
        assert llm.complete(self.subject.question, min_new_tokens=30).usage.completion_tokens >= 30

    @requirement("logit_bias keeps tokens out of the answer", needs="logit_bias")
    def test_logit_bias(self) -> None:
        llm = self.make()
        plain = llm.chat(self.subject.question)
        try:
            tokens = llm.tokenize(plain)
        except UnsupportedParameter:  # the server counts no tokens
            tokens = range(512)
        answer = llm.chat(self.subject.question, logit_bias=dict.fromkeys(tokens, -100))
        assert not set(plain.split()) & set(answer.split())
        assert llm.chat(self.subject.question, logit_bias={}) == plain

    @requirement("reasoning_effort is honoured or refused", needs="reasoning_effort")
    def test_reasoning_effort(self) -> None:
        self.make_for("reasoning_effort").chat(self.subject.question, reasoning_effort="low")

    @requirement("complete(…, n=3) returns three answers to each input; what returns one refuses it")
    def test_n(self) -> None:
        llm = self.make()
        answer = llm.complete(self.subject.question, n=3)
        assert [one.text for one in answer.choices] == [llm.chat(self.subject.question)] * 3
        prompt = self.prompt(llm.llm)
        batch = llm.complete([prompt, prompt], n=2)
        assert [len(one.choices) for one in batch] == [2, 2]
        for refused in (llm.chat, lambda *args, **kwargs: llm.chunks("stream_chat", *args, **kwargs)):
            with pytest.raises(UnsupportedParameter, match="n=2"):
                refused(self.subject.question, n=2)
        with pytest.raises(InvalidArgument, match="n=2: a session keeps one answer"):
            llm.complete(self.subject.question, n=2, sequence_end=False)

    @requirement("sampling='server' sends no default; what is given is sent", needs="sampling")
    def test_sampling(self) -> None:
        answers = [
            self.make(sampling=whose, max_new_tokens=7).complete(self.subject.long_question)
            for whose in ("server", "client")
        ]
        assert answers[0].text == answers[1].text
        assert [answer.usage.completion_tokens for answer in answers] == [7, 7]

    @requirement(
        "extra_body adds fields to the request; a field it has is refused by name", needs="extra_body"
    )
    def test_extra_body(self) -> None:
        llm = self.make()
        assert llm.chat(self.subject.question, extra_body={}) == llm.chat(self.subject.question)
        with pytest.raises(InvalidArgument, match=r"extra_body\['stream'\]"):
            llm.chat(self.subject.question, extra_body={"stream": False})

    @requirement("extra_inputs adds inputs to the request; unknown ones are refused", needs="extra_inputs")
    def test_extra_inputs(self) -> None:
        llm = self.make()
        assert llm.chat(self.subject.question, extra_inputs={}) == llm.chat(self.subject.question)
        with pytest.raises(InvalidArgument, match=r"extra_inputs\['no-such-input'\].* has no such input"):
            llm.chat(self.subject.question, extra_inputs={"no-such-input": 1})

    @requirement("what a backend does not support is refused by name before anything is sent")
    def test_every_unsupported_parameter(self) -> None:
        llm = self.make()
        refused = llm.llm.unsupported - ALIASES.keys()
        assert not refused - EFFECTIVE_VALUES.keys(), "a value is missing"
        dialog = [*self.subject.question, {"role": "assistant", "content": "The"}]  # continue_final_message
        for name in sorted(refused):
            with pytest.raises(UnsupportedParameter) as caught:
                llm.chat(dialog, **{name: EFFECTIVE_VALUES[name]})
            assert caught.value.parameter == name
            assert name in str(caught.value)

    @requirement(
        "logprobs returns the log-probability of each token and of its best alternatives", needs="logprobs"
    )
    def test_logprobs(self) -> None:
        llm = self.make_for("logprobs")
        answer = llm.complete(self.subject.question, logprobs=3)
        assert len(answer.logprobs) == answer.usage.completion_tokens
        assert "".join(item.token for item in answer.logprobs) == answer.text
        for item in answer.logprobs:
            assert item.logprob <= 0
            assert len(item.top) == 3
            assert (item.token, item.token_id, item.logprob) == item.top[0]  # greedy takes the best
        assert llm.complete(self.subject.question).logprobs == ()

    @requirement("response_format is honoured or refused", needs="response_format")
    def test_response_format(self) -> None:
        llm = self.make_for("response_format")
        if not self.subject.constrains:
            llm.chat(self.subject.question, response_format=_Checked)
            self.outcome = "not seen"
            return
        assert isinstance(llm.parse(self.subject.question, _Checked), _Checked)
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [17, True]}}}
        assert llm.chat(self.subject.question, response_format=schema).strip() in ("17", "true")
        for constraint in (re.compile("[XZ][0-9]{2}"), ["X17", "Z99"]):
            try:
                answer = llm.chat(self.subject.question, response_format=constraint)
            except UnsupportedParameter as error:  # not every server has these forms
                if error.parameter != "response_format":
                    raise
                continue
            assert re.fullmatch("[XZ][0-9]{2}", answer)

    @requirement("stream=False gives the same answer in one piece", needs="stream")
    def test_without_streaming(self) -> None:
        llm = self.make()
        whole = llm.complete(self.subject.question, stream=False)
        streamed = llm.complete(self.subject.question)
        assert (whole.text, whole.finish_reason) == (streamed.text, streamed.finish_reason)
        assert whole.usage.completion_tokens == streamed.usage.completion_tokens

    @requirement("a value for one call never changes the object")
    def test_calls_leave_no_trace(self) -> None:
        llm = self.make()
        before = asdict(llm.llm.params), asdict(llm.llm.options)
        plain = llm.complete(self.subject.long_question)
        llm.complete(self.subject.long_question, max_new_tokens=3, stop_words=["x"], timeout=20)
        assert (asdict(llm.llm.params), asdict(llm.llm.options)) == before
        assert llm.complete(self.subject.long_question).text == plain.text

    @requirement("invalid input is refused before anything is sent, with the argument's name")
    def test_bad_input(self) -> None:
        llm = self.make()
        with pytest.raises(UnknownParameter, match="did you mean 'temperature'"):
            llm.chat(self.subject.question, temprature=1)
        for bad in ({"top_p": 2}, {"max_new_tokens": 0}, {"temperature": -1}, {"session_id": "one"}):
            with pytest.raises((InvalidArgument, UnsupportedParameter), match=next(iter(bad))):
                llm.chat(self.subject.question, **bad)
        with pytest.raises(InvalidArgument, match="the prompt is empty"):
            llm.generate("")
        with pytest.raises(InvalidArgument, match="list of messages is empty"):
            llm.chunks("stream_chat", [])
        with pytest.raises(InvalidArgument, match="role"):
            llm.chat([{"content": "no role"}])

    @requirement("values of other types mean the same, or are refused by name before anything is sent")
    def test_values_of_other_types(self) -> None:
        class Text(str):
            """A string with a `repr` of its own, as enums and numpy's strings have."""

            __slots__ = ()

            def __repr__(self) -> str:
                return "something else"

        class Number(int):
            """An integer that is not exactly an `int`."""

            def __repr__(self) -> str:
                return "something else"

        llm = self.make()
        expected = llm.complete(self.subject.question, max_new_tokens=5, stop_words=["zzz", "yyy"])
        messages = deque(MappingProxyType({k: Text(v) for k, v in m.items()}) for m in self.subject.question)
        answer = llm.complete(messages, max_new_tokens=Number(5), stop_words={"yyy", Text("zzz")})
        assert answer.text == expected.text
        assert answer.usage.completion_tokens == expected.usage.completion_tokens
        for bad in ({"stop_words": [b"x"]}, {"max_new_tokens": "5"}, {"temperature": float("nan")}):
            with pytest.raises(InvalidArgument, match=next(iter(bad))):
                llm.complete(self.subject.question, **bad)
        with pytest.raises(InvalidArgument, match="half a character"):
            llm.complete(user("\ud83d"))


class Batches(ConformanceTests):
    """Tests of several inputs at once."""

    QUESTIONS = (
        "What is the capital of France?",
        "What is the capital of Japan?",
        "Spell lamp.",
        "What is 2 + 3?",
    )

    @requirement("a batch keeps its order")
    def test_order(self) -> None:
        llm = self.make()
        dialogs = [user(question) for question in self.QUESTIONS]
        assert llm.chat(dialogs) == [llm.chat(dialog) for dialog in dialogs]
        prompts = [self.prompt(llm.llm), "Hello", "One two"]
        assert llm.generate(prompts) == [llm.generate(prompt) for prompt in prompts]

    @requirement("one bad input of a batch does not lose the others")
    def test_partial_failure(self) -> None:
        llm = self.make()
        expected = llm.chat(self.subject.question)
        with pytest.raises(BatchError) as caught:
            llm.chat([self.subject.question, [], self.subject.question])
        assert caught.value.index == 1
        first, refused, last = caught.value.results
        assert (first, last) == (expected, expected)
        assert isinstance(refused, InvalidArgument)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.index, str(again)) == (1, str(caught.value))

    @requirement("a batch may be larger than the number of concurrent requests")
    def test_large_batches(self) -> None:
        llm = self.make()
        assert llm.chat([self.subject.question] * 40) == [llm.chat(self.subject.question)] * 40

    @requirement("the inputs of a batch run concurrently")
    def test_concurrency(self) -> None:
        if self.subject.running() is None:
            self.outcome = "not seen"
            return
        llm = self.make(ignore_eos=self.honours("ignore_eos"))
        assert any(self._max_concurrency(llm, length) > 1 for length in (100, 300, 900))

    def _max_concurrency(self, llm: Caller, length: int) -> int:
        """Most generations seen running together during a batch with answers of `length` tokens."""
        dialogs = [self.subject.long_question] * 8
        thread = threading.Thread(target=llm.chat, args=(dialogs,), kwargs={"max_new_tokens": length})
        thread.start()
        maximum = 0
        while thread.is_alive() and maximum < 2:
            maximum = max(maximum, self.subject.running() or 0)
            time.sleep(0.005)
        thread.join()
        return maximum
