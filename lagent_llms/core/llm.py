"""From what a caller passes to one `Request`: parameters checked, session opened, template applied. Pure.

`LLMCore` is the part of a backend without I/O; `BaseLLM` and `AsyncBaseLLM` add the two drivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from .. import forks, validators
from ..errors import (
    InvalidArgument,
    LLMError,
    TemplateError,
    UnknownParameter,
)
from ..messages import check_messages, with_call_ids
from ..params import CallOptions
from ..retry import Attempts, RetryBudget
from ..templates import History, Rendered, load_template
from ..templates.api_roles import api_roles
from ..templates.history import to_continue
from ..templates.injection import MARK, EscapedPrompt
from .adaptive import MOST_IN_FLIGHT, Found
from .constructor_aliases import AcceptsAliases
from .injection import ContentGuards
from .keeping import KeepsCalls
from .lagent_interface import LagentInterface
from .parts import CONTENT, SendsParts
from .request import Input, Request
from .session_limit import LimitsSessions
from .sessions import SessionStore, Turn, warn_of_session_id

if TYPE_CHECKING:
    import os

    from ..schema import Completion, Message
    from ..store.cache import AnswerCache
    from ..store.journal import Journal
    from ..templates import TemplateSpec
    from ..templates.answers.reader import AnswerReader
    from ..templates.api_roles import APIRoles

__all__ = ["LLMCore", "PreparedCall", "as_dialog"]

_NOTHING_SAID = History()
_positive = validators.integer("an integer of 1 or more", 1)


def as_dialog(inputs: object) -> Any:
    """The input of a chat, in which a string or a single dict is a dialog of one message.

    An empty string stays one: it is refused as an empty prompt is.
    """
    if type(inputs) is not list:
        inputs = validators.to_builtin(inputs)
    if isinstance(inputs, str) and inputs:
        return [{"role": "user", "content": inputs}]
    return [inputs] if isinstance(inputs, Mapping) else inputs


class PreparedCall(NamedTuple):
    """One call, checked: its request, and the bookkeeping of the stream that runs it.

    Attributes:
        request: What the backend gets.
        history: The dialog up to the prompt, for the session to keep once it is answered.
        turn: The turn of an open session; None for a stateless call.
        reader: Splits off reasoning and finds tool calls in the answer; None for a bare prompt's.
    """

    request: Request
    history: History
    turn: Turn | None
    reader: AnswerReader | None = None


class LLMCore(
    AcceptsAliases,
    ContentGuards,
    SendsParts,
    KeepsCalls,
    LimitsSessions,
    LagentInterface,
):
    """Parameters, template, sessions and limits of one backend.

    Objects can be pickled and copied, except those of a backend that is `in_process`.

    Args:
        meta_template: How messages become a prompt: a family name, the seeds' list of dicts, a path, a Jinja
            string; None leaves it to the model or its server. A list of dicts with ``api_role`` and without
            texts maps the roles, and leaves the rest to the model or its server.
        session_len: Most tokens of history, prompt and answer together; None leaves the limit to the model.
        max_concurrency: Most prompts of one batch in flight at once; fewer while the server is overloaded.
            'auto' finds the number for each server while a batch runs, from 1 to 512, and keeps an engine in
            this process full.
        cache: A folder where answers of deterministic calls are kept and used again: a path, a dict with
            the arguments of `AnswerCache`, or one that other backends use as well.
        journal: A file where every call is kept: a path, a dict with the arguments of `Journal`, or one.
        defaults: Any parameter of `GenerationParams` and `CallOptions`, the default of every call.

    Attributes:
        parse_roles: Maps the roles of messages, None where the meta template maps none.
        closed: Whether it was closed: calls fail.
        warned_of_limit: Whether a warning was logged that the server's default limit has cut an answer.
        warned_of_session: Whether a warning was logged that a session_id alone remembers nothing.
        retry_budget: What the retries of all calls share.
        found_concurrency: What batches have found, by the index of the server.
        usage: What the calls so far have used: `UsageTotals` of all models and of each, and `reset`.
    """

    #: Whether messages can be sent as they are, for the server to apply its template.
    takes_messages: ClassVar[bool] = False
    #: Whether the model runs in this process: a forked child cannot use it, and it cannot be copied.
    in_process: ClassVar[bool] = False
    #: Whether other backends answer its calls, and repeat them; here only prompts of batches are repeated.
    retries_in_members: ClassVar[bool] = False
    #: Whether every request must say max_new_tokens, given or not.
    needs_limit: ClassVar[bool] = False
    closed: bool = False
    warned_of_limit: bool = False
    warned_of_session: bool = False

    def __init__(
        self,
        *,
        meta_template: TemplateSpec | APIRoles | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        cache: str | os.PathLike[str] | Mapping[str, Any] | AnswerCache | None = None,
        journal: str | os.PathLike[str] | Mapping[str, Any] | Journal | None = None,
        **defaults: Any,
    ) -> None:
        self.session_len = _positive("session_len", session_len) if session_len is not None else None
        self.max_concurrency = validators.concurrency("max_concurrency", max_concurrency)
        self.parse_roles, template = api_roles(meta_template)
        self.template = load_template(template)
        if self.parse_roles is not None and self.template is None and not self.takes_messages:
            raise TemplateError(
                f"meta_template: it maps roles to api_roles and has no texts, and {type(self).__name__} "
                "has no chat route to send messages to; give a template with 'begin' and 'end', or the name "
                "of a family"
            )
        super().__init__(**defaults)
        if self.options.tool_parser not in ("auto", None):
            from ..templates.answers.formats import call_format

            call_format(self.options.tool_parser)  # an unknown name is refused here
        self.sessions = SessionStore()
        self.retry_budget = RetryBudget()
        self.found_concurrency: dict[int, Found] = {}
        self._generation = forks.generation
        self._keep(cache, journal)

    @property
    def fills_engine(self) -> int | None:
        """Number of prompts in flight that keep an engine in this process full; None if that is not known."""
        return None

    @property
    def most_in_flight(self) -> int:
        """Most prompts of a batch that may be in flight at one server."""
        return MOST_IN_FLIGHT if self.max_concurrency == "auto" else self.max_concurrency

    @property
    def server_count(self) -> int:
        """Number of equal servers that answer."""
        return 1

    @property
    def context_len(self) -> int | None:
        """Most tokens of a prompt and its answer together, None when the backend does not say."""
        return self.session_len

    def prepare(self, inputs: Input, given: Mapping[str, Any]) -> PreparedCall:
        """Check everything about one call and open its session turn; nothing is sent.

        Args:
            inputs: A prompt, or messages.
            given: The call's keywords.

        Raises:
            LLMError: The input, a parameter, the template or the session refuses.
        """
        if self.closed or self._generation != forks.generation:
            self.check_open()
        params, options = self.params, self.options
        if given:
            params, options = self._parameters.merge(params, options, given)
        if options.n > 1:
            raise self.one_answer_error(options.n)
        if isinstance(inputs, str):
            if not inputs:
                raise InvalidArgument("inputs: the prompt is empty", argument="inputs")
            if options.do_preprocess:
                inputs = [{"role": "user", "content": inputs}]
        turn = None
        if not (options.sequence_start and options.sequence_end):
            turn = self.sessions.begin(
                options.session_id, start=options.sequence_start, end=options.sequence_end
            )
        elif not self.warned_of_session and "session_id" in options.given:
            warn_of_session_id(self, options)
        try:
            if options.injection != "allow":
                options = self._guarded_options(options, options.injection)
            before = _NOTHING_SAID if turn is None else turn.history
            if before.opening is not None:  # servers with sequences need to know
                options = options.changed({"sequence_start": True})
            prompt, history = self._rendered(before, inputs, options)
            messages = None if isinstance(inputs, str) or history.messages is None else [*history.messages]
            template, stop_words = self.template, params.stop_words
            if stop_words is None:  # a template's own words end turns: ignore_eos continues after those too
                stop_words = () if template is None or params.ignore_eos else template.stop_words
            add_bos = messages is None or template is None or template.bos_by == "server"
            request = Request(prompt, messages, params, options, stop_words, add_bos, before.held)
            request.needs_limit = self.needs_limit or self.session_len is not None
            self.check_request(request)
            reader = self.new_reader(request)
        except BaseException:  # KeyboardInterrupt too: the session must not stay busy
            if turn is not None:
                turn.rollback()
            raise
        return PreparedCall(request, history, turn, reader)

    def new_reader(self, request: Request) -> AnswerReader | None:
        """What splits off reasoning and finds tool calls in an answer; None to look for neither."""
        options, template = request.options, self.template
        if request.messages is None:
            return None
        if (
            template is None
            and options.tool_parser in ("auto", None)
            and not isinstance(options.reasoning, tuple)
        ):
            return None  # the server, which applies its template, does both
        from ..templates.answers.reader import answer_reader  # here, to keep the package's import fast

        return answer_reader(
            None if template is None else template.answer_marks,
            request.prompt,
            request.messages,
            tools=options.tools,
            tool_parser=options.tool_parser,
            reasoning=options.reasoning,
        )

    def prepare_stream(self, inputs: Input, given: Mapping[str, Any]) -> PreparedCall | LLMError:
        """`prepare` for a stream; with ``on_error='status'`` a refusal is returned, for the stream to report.

        Raises:
            LLMError: As `prepare`, unless ``on_error='status'``; UnknownParameter always.
        """
        try:
            return self.prepare(inputs, given)
        except UnknownParameter:
            raise
        except LLMError as refusal:
            if given.get("on_error", self.options.on_error) != "status":
                raise
            return refusal

    def _rendered(self, history: History, inputs: Input, options: CallOptions) -> tuple[str | None, History]:
        """The whole prompt (None where the server renders the messages), and the history to keep."""
        if isinstance(inputs, str):
            if type(inputs) is not str or not inputs.isascii():
                if isinstance(inputs, EscapedPrompt):
                    validators.encodable_text("inputs", inputs.replace(MARK, ""))
                else:
                    inputs = validators.encodable_text("inputs", inputs)
            if options.continue_final_message:
                raise InvalidArgument(
                    "continue_final_message=True: a prompt has no messages to continue",
                    argument="continue_final_message",
                )
            if history.text is None or history.opening:
                raise InvalidArgument(
                    "inputs: this session was begun with messages, which a prompt cannot follow: continue it "
                    "with messages",
                    argument="inputs",
                )
            text = history.text + inputs
            return Rendered(text, History(None, text))
        if history.opening and (given := validators.listed(inputs)):
            inputs = [*history.opening, *given]
        messages: Sequence[Message]
        if self.parse_roles is None:
            messages = check_messages(inputs, message_of=self.message_of)
        else:
            messages = check_messages(self.parse_roles(check_messages(inputs)))
        if list in map(type, map(CONTENT, messages)):
            messages = self._with_accepted_parts(messages)
        said = history.messages or ()
        messages = with_call_ids((*said, *messages) if said else messages)[len(said) :]
        if options.continue_final_message:
            messages = [*messages[:-1], to_continue(messages[-1])]
        mode = options.injection
        template = self.template if mode == "allow" else self._guarded_template(mode)
        if template is not None:
            return template.turn(
                history,
                template.adapted(messages),
                tools=options.tools,
                continue_final_message=options.continue_final_message,
                **(options.chat_template_kwargs or {}),
            )
        if not self.takes_messages or history.messages is None:
            raise TemplateError(
                f"{type(self).__name__} needs a meta_template to make a prompt of messages: a family name "
                "such as 'chatml', a list of dicts, or a path"
            )
        if mode != "allow":
            messages = self._checked(messages, mode, len(history.messages))
        return None, History((*history.messages, *messages), None, continued=options.continue_final_message)

    def message_of(self, completion: Completion) -> Message:
        """The message that a session keeps of an answer."""
        message = completion.message() if self.template is None else self.template.message_of(completion)
        return message if self.parse_roles is None else check_messages(self.parse_roles([message]))[0]

    def check_request(self, request: Request) -> None:
        """Refuse what the route of this request does not support; for backends with several routes.

        Raises:
            LLMError: The request must not be sent.
        """

    def check_prompt_size(self, prompt: str) -> None:
        """Refuse a prompt that is too long whatever its tokens are; for engines in this process.

        Raises:
            ContextLengthExceeded: The prompt has too many bytes.
        """

    def attempts(self) -> Attempts:
        """The attempts of a call that is no generation, with the constructor's policy and limits."""
        options = self.options
        return Attempts(options.retry, self.retry_budget, total=options.timeout.total)

    def explain(self, error: LLMError) -> LLMError:
        """The error to raise for one that a call failed with; for backends that know its cause."""
        return error

    def check_batch(self, calls: list[tuple[Input, dict[str, Any]]]) -> list[tuple[Input, dict[str, Any]]]:
        """`calls`, after checking the parameters of all of them: a bad one fails the batch before it begins.

        A bad input fails alone; a bad parameter would fail every input the same way.
        """
        for _, given in calls:
            if (n := self.merged(given)[1].n) > 1:
                raise self.one_answer_error(n)
        return calls

    def check_open(self) -> None:
        """Refuse a call after `close`, and in a forked child if the model runs in its parent.

        Raises:
            LLMError: The object is closed, or the model runs in the parent process.
        """
        if self.closed:
            raise LLMError(f"{self!r} is closed")
        if self.in_process:
            forks.check(self._generation, f"{self!r} was made", forks.MAKE_IN_CHILD)

    @property
    def _runs_in_parent(self) -> bool:
        """Whether the model runs in the process that forked this one."""
        return self.in_process and self._generation != forks.generation

    @property
    def not_copied(self) -> str:
        """See `CopiedByArguments`."""
        if not self.in_process:
            return super().not_copied
        return (
            "its model runs in this process; make one in each process (in the initializer of a pool), or "
            "serve the model and give each process a client"
        )
