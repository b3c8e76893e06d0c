"""From what a caller passes to one `Request`: parameters checked, template applied, session opened. Pure.

`LLMCore` is the half of a backend that knows no I/O; `BaseLLM` and `AsyncBaseLLM` add the two drivers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from .. import validators
from ..errors import (
    InvalidArgument,
    LLMError,
    SessionOutOfLimit,
    TemplateError,
    UnknownParameter,
    UnsupportedParameter,
    nearest,
)
from ..params import ALIASES, CallOptions, GenerationParams, ParameterSet, unhonoured
from ..schema import Completion, Message, check_messages
from ..templates import load_template
from .answer import Answer
from .sessions import History, SessionStore, Turn

if TYPE_CHECKING:
    from ..templates import ChatTemplate, TemplateSpec, Written
    from .telemetry import CallSpan

__all__ = ["Input", "LLMCore", "Request"]

#: Most tokens that a tokenizer puts around a text (BOS, EOS, a space).
_AROUND_A_PROMPT = 4

#: One input of a call: a prompt, or the messages of a dialog.
Input = str | Sequence[Message]


@dataclass(slots=True)
class Request:
    """One generation, ready to be sent.

    Attributes:
        prompt: The whole prompt, history and template included; None when the server applies its template.
        messages: The whole dialog when it came as messages, else None.
        params: How to decode.
        options: The call around it.
        add_bos: Whether the tokenizer should put its BOS before the prompt (if that is its habit, and unless
            the prompt begins with it already).
        stop_words: Where to cut the answer: the caller's, or the template's own.
        turn: The session turn this request is.
        history: What the session will hold once the answer is there.
        on_error: What its stream does with an error; calls that are no streams always raise.
        refusal: Why this request must not be sent; its stream tells so (``on_error='status'``).
        span: Where the call is traced, None when nobody traces.
        explain: Makes the error that is told of the one it failed with, by a backend that knows more.
    """

    prompt: str | None
    messages: list[Message] | None
    params: GenerationParams
    options: CallOptions
    add_bos: bool
    stop_words: tuple[str, ...]
    turn: Turn
    history: Callable[[Completion], History]
    on_error: str = "raise"
    refusal: LLMError | None = None
    span: CallSpan | None = None
    explain: Callable[[LLMError], LLMError] | None = None


class LLMCore:
    """Parameters, template, sessions and limits of one backend.

    Args:
        meta_template: How messages become a prompt: a family name, the seeds' list of dicts, a path, a Jinja
            string; None leaves it to the model or its server.
        session_len: Most tokens of history, prompt and answer together; None leaves the limit to the model.
        max_concurrency: Most prompts of one batch in flight at once.
        defaults: Any parameter of `GenerationParams` and `CallOptions`, the default of every call.

    Attributes:
        closed: Whether it was closed: calls fail.
    """

    #: Names of `GenerationParams` and `CallOptions` that this backend cannot honour.
    unsupported_parameters: ClassVar[frozenset[str]] = frozenset()
    #: Names of `CallOptions` that few backends honour (`priority`, `merged_adapters` …), and this one does.
    rare_parameters: ClassVar[frozenset[str]] = frozenset()
    #: Whether messages can be sent as they are, for the server to apply its template.
    takes_messages: ClassVar[bool] = False
    closed: bool = False

    def __init__(
        self,
        *,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int = 64,
        **defaults: Any,
    ) -> None:
        self.session_len = _positive("session_len", session_len) if session_len is not None else None
        self.max_concurrency = _positive("max_concurrency", max_concurrency)
        self.template: ChatTemplate | None = load_template(meta_template)
        self._parameters = ParameterSet(type(self).__name__, self.refused_names())
        if stray := [name for name in defaults if name not in self._parameters.known]:
            known = self.constructor_names() - self.refused_names()
            raise UnknownParameter(
                f"{type(self).__name__}: unknown parameter {stray[0]!r}{nearest(stray[0], known)}; "
                f"known are {', '.join(sorted(known))}"
            )
        self.params, self.options = self._parameters.merge(GenerationParams(), CallOptions(), defaults)
        self.sessions = SessionStore()

    @property
    def context_len(self) -> int | None:
        """Most tokens a prompt and its answer can have together, None when the backend does not say."""
        return self.session_len

    @classmethod
    def constructor_names(cls) -> frozenset[str]:
        """Every keyword the constructor takes, those of `GenerationParams` and `CallOptions` included.

        One that the backend cannot honour may be given with a value that asks for nothing.
        """
        own = {
            name
            for base in cls.__mro__
            if "__init__" in vars(base) and issubclass(base, LLMCore)
            for name, item in inspect.signature(base).parameters.items()
            if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
        }
        return frozenset(own | GenerationParams.names() | CallOptions.names() | set(ALIASES))

    @classmethod
    def refused_names(cls) -> frozenset[str]:
        """The parameters this backend cannot honour."""
        return unhonoured(cls.unsupported_parameters, cls.rare_parameters)

    def prepare(self, inputs: Input, given: Mapping[str, Any]) -> Request:
        """Check everything about one call and open its session turn; nothing is sent.

        Args:
            inputs: A prompt, or messages.
            given: The call's keywords.

        Raises:
            LLMError: The input, a parameter, the template or the session refuses.
        """
        self.check_open()
        params, options = self._parameters.merge(self.params, self.options, given)
        if inputs == "":
            raise InvalidArgument("inputs: the prompt is empty", argument="inputs")
        if isinstance(inputs, str) and options.do_preprocess:
            inputs = [{"role": "user", "content": inputs}]
        turn = self.sessions.begin(options.session_id, start=options.sequence_start, end=options.sequence_end)
        try:
            text: str | None
            written: Written | None = None
            if isinstance(inputs, str):
                validators.encodable_text("inputs", inputs)
                text, dialog = self._history_text(turn.history) + inputs, None
            else:
                text, dialog, written = self._dialog(turn.history, check_messages(inputs), options)
            request = Request(
                prompt=text,
                messages=dialog,
                params=params,
                options=options,
                add_bos=dialog is None or self.template is None or self.template.bos_by == "server",
                stop_words=self._stop_words(params),
                turn=turn,
                history=partial(_extended, text, dialog, written),
            )
            self.check_request(request)
        except BaseException:  # whatever it is, Ctrl-C too: it goes on, but the session must not stay busy
            turn.rollback()
            raise
        return request

    def check_request(self, request: Request) -> None:
        """Refuse what cannot be honoured on the way this very request takes; for backends with several.

        Raises:
            LLMError: The request must not be sent.
        """

    def prepare_stream(self, inputs: Input, given: Mapping[str, Any]) -> Request:
        """`prepare` for a stream: with ``on_error='status'`` a refusal is told by the stream itself.

        Raises:
            LLMError: As `prepare`, unless ``on_error='status'``; UnknownParameter always.
        """
        try:
            request = self.prepare(inputs, given)
        except UnknownParameter:
            raise
        except LLMError as refusal:
            if given.get("on_error", self.options.on_error) != "status":
                raise
            nothing = self.sessions.begin(0, start=True, end=True)
            options = replace(self.options, on_error="status")
            request = Request(
                "", None, self.params, options, False, (), nothing, lambda _: History(), refusal=refusal
            )
        request.on_error = request.options.on_error
        return request

    def check_batch(self, calls: list[tuple[Input, dict[str, Any]]]) -> list[tuple[Input, dict[str, Any]]]:
        """`calls`, once the parameters of all of them are right: those fail the batch before it begins.

        A bad input fails alone; a bad parameter would fail every input the same way.
        """
        for _, given in calls:
            self._parameters.merge(self.params, self.options, given)
        return calls

    def answer(self, request: Request) -> Answer:
        """An empty `Answer` to `request`."""
        parse = self.template.parse_tool_calls if self.template is not None else None
        return Answer(request.stop_words, parse)

    def check_open(self) -> None:
        """Refuse what is asked of a closed object.

        Raises:
            LLMError: It is closed.
        """
        if self.closed:
            raise LLMError(f"{self!r} is closed")

    def refuse(self, request: Request, names: Sequence[str], why: str) -> None:
        """Refuse those of `names` that `request` asks for: where it has to go they would be dropped.

        Raises:
            UnsupportedParameter: One is asked for; `why` is told.
        """
        for name in names:
            table = request.params if name in GenerationParams.names() else request.options
            if (value := getattr(table, name)) is not None:
                raise UnsupportedParameter(
                    f"{type(self).__name__} cannot honour {name}={value!r} {why}",
                    parameter=name,
                    backend=type(self).__name__,
                )

    def to_count(self, request: Request) -> str | None:
        """The prompt whose tokens must be counted, None when it fits the session whatever their number.

        A token is a byte at least, but for the few that a tokenizer puts around a text.

        Raises:
            UnsupportedParameter: The server makes the prompt, so nobody here can count it.
        """
        if self.session_len is None:
            return None
        if request.prompt is None:
            raise UnsupportedParameter(
                f"{type(self).__name__} cannot honour session_len={self.session_len} for messages without a "
                "meta_template: the server makes the prompt of them",
                parameter="session_len",
                backend=type(self).__name__,
            )
        most = len(request.prompt.encode()) + _AROUND_A_PROMPT + request.params.max_new_tokens
        return request.prompt if most > self.session_len else None

    def check_length(self, request: Request, prompt_tokens: int) -> None:
        """Refuse a request that would outgrow the session.

        Raises:
            SessionOutOfLimit: history + prompt + max_new_tokens > session_len.
        """
        if self.session_len is None:
            return
        asked = request.params.max_new_tokens
        if prompt_tokens + asked > self.session_len:
            raise SessionOutOfLimit(
                f"{prompt_tokens} tokens of history and prompt + max_new_tokens={asked} exceed "
                f"session_len={self.session_len}",
                session_id=request.options.session_id,
            )

    def _stop_words(self, params: GenerationParams) -> tuple[str, ...]:
        if params.stop_words is not None:
            return params.stop_words
        # The template's own words are ends of turns: ignore_eos means to go on after those as well.
        return () if self.template is None or params.ignore_eos else self.template.stop_words

    def _dialog(
        self, history: History, messages: list[Message], options: CallOptions
    ) -> tuple[str | None, list[Message] | None, Written | None]:
        """The whole prompt, the whole dialog unless part of it was a bare prompt, and how to go on from it.

        In a session a further turn costs what it holds itself, not what was said before, where the template
        allows that.
        """
        if history.messages is None:
            return history.text + self._without_bos(self._render(messages, options)), None, None
        dialog = [*history.messages, *messages]
        if self.template is None and self.takes_messages:
            return None, dialog, None
        if self.template is None or options.tools or not history.messages:
            return self._render(dialog, options), dialog, None
        known = history.written
        if known is not None and (grown := self.template.grown(known, dialog[known.messages :])) is not None:
            written, prompt = grown
            return prompt, dialog, written
        return self._render(dialog, options), dialog, self.template.written(dialog)

    def _history_text(self, history: History) -> str:
        if history.text or not history.messages:
            return history.text
        raise InvalidArgument(
            "inputs: this session was held with messages and the template is the server's: "
            "continue it with messages",
            argument="inputs",
        )

    def _render(self, messages: Sequence[Message], options: CallOptions) -> str:
        if self.template is None:
            raise TemplateError(
                f"{type(self).__name__} needs a meta_template to make a prompt of messages: a family name "
                "such as 'chatml', a list of dicts, or a path"
            )
        return self.template.render(messages, add_generation_prompt=True, tools=options.tools)

    def _without_bos(self, text: str) -> str:
        bos = self.template.bos if self.template is not None else ""
        return text[len(bos) :] if bos and text.startswith(bos) else text


def _extended(
    text: str | None, dialog: list[Message] | None, written: Written | None, completion: Completion
) -> History:
    """The history after `completion`: the dialog if there is one, and the text as the model saw it."""
    answer = {"role": "assistant", "content": completion.text}
    return History(
        messages=None if dialog is None else (*dialog, answer),
        text="" if text is None else text + completion.text + (completion.stop_word or ""),
        written=written,
    )


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(f"{name}={value!r}: allowed is an integer of 1 or more", argument=name)
    return value
