"""`FallbackLLM` and `RouterLLM`: several backends as one, each call answered by one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ... import validators
from ...config import create_llm, load_config
from ...content_parts import EVERY_PART, AcceptedParts
from ...core.base import AsyncBaseLLM, BaseLLM
from ...core.llm import LLMCore
from ...core.usage import UsageCounter
from ...errors import InvalidArgument, LLMError
from ...params import PARAMETERS, CallOptions, GenerationParams
from ...retry import Attempts, RetryBudget, RetryPolicy
from .relay import AsyncRelay, Relay
from .route import Pool, Route

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...core.request import Input, Request
    from ...params import BackendKwargs, Timeout
    from ...schema import Message
    from ...templates import TemplateSpec
    from ...templates.answers.reader import AnswerReader
    from ...templates.injection import Mode

__all__ = ["AsyncFallbackLLM", "AsyncRouterLLM", "FallbackLLM", "RouterLLM", "RoutingCore"]

#: Parameters of a call that are not passed on: sessions, prompts and statuses are handled here.
_OWN = frozenset(
    {"session_id", "sequence_start", "sequence_end", "on_error", "do_preprocess", "max_per_second"}
)
_cooldown = validators.number("a number of seconds of 0 or more", 0)


class RoutingCore(LLMCore):
    """Several backends as one. Each call is answered by one member.

    A member is asked with its own template, parameters and retries. If it fails in a way that is retried
    (see `RetryPolicy`: no connection, 429, 5xx, a timeout) before any of its answer was shown, another one is
    asked, and it comes last for a while. Every member must take the parameters of every call. Sessions are
    kept here and stay with the member that has answered last.

    Args:
        llms: The members: configurations, names of profiles (of the file in LAGENT_LLM_CONFIG), or backends
            of the same kind, synchronous or asynchronous. They are closed with this object.
        cooldown: How long a member comes last after a failure, in seconds.
        meta_template: Default for members that are made from configurations.
        session_len: As `meta_template`.
        max_concurrency: See `LLMCore`.
        **kwargs: Parameters of `GenerationParams` and `CallOptions`; they replace the members' defaults.

    Attributes:
        members: The members, in order.
        pool: Chooses among them.

    Raises:
        InvalidArgument: A member is no backend, or an argument is not allowed.
        LLMError: A member cannot be made, or refuses a parameter.
    """

    takes_messages: ClassVar[bool] = True
    retries_in_members: ClassVar[bool] = True
    balanced: ClassVar[bool] = False
    members: tuple[LLMCore, ...] = ()
    opt_in_parameters = frozenset(row.name for row in PARAMETERS.values() if row.opt_in)
    neutral_arguments = LLMCore.neutral_arguments | {"cooldown", "llms"}  # see `served_model`

    def __init__(
        self,
        llms: Sequence[Mapping[str, Any] | str | LLMCore],
        *,
        cooldown: float = 10.0,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        super().__init__(max_concurrency=max_concurrency, **kwargs)
        given = None if isinstance(llms, (str, Mapping)) else validators.listed(llms)
        if not given:
            raise InvalidArgument(
                "llms: allowed is a list of configurations, names of profiles or backends", argument="llms"
            )
        cooldown = _cooldown("cooldown", cooldown)
        shared = {"meta_template": meta_template, "session_len": session_len}
        shared = {name: value for name, value in shared.items() if value is not None}
        with ExitStack() as made:  # closes the first ones if a later one cannot be made
            members = []
            for index, item in enumerate(given):
                with _naming(f"llms[{index}]", "llms"):
                    members.append(self._member(item, shared))
                if isinstance(member := members[-1], BaseLLM) and member is not item:
                    made.callback(member.close)
            self.members = tuple(members)
            self.usage = UsageCounter(member.usage for member in members)
            self.check_batch([("", self._given(self))])
            made.pop_all()
        self.pool = Pool(self.members, balanced=self.balanced, cooldown=cooldown)

    def _member(self, given: object, shared: Mapping[str, Any]) -> LLMCore:
        asynchronous = isinstance(self, AsyncBaseLLM)
        if isinstance(given, (str, Mapping)):
            source: Any = {"profile": given} if isinstance(given, str) else {"config": given}
            settings, _ = load_config(**source)
            missing = {name: value for name, value in shared.items() if name not in settings}
            make: Any = create_llm
            made: LLMCore = make(**source, asynchronous=asynchronous, **missing)
            return made
        kind = AsyncBaseLLM if asynchronous else BaseLLM
        if not isinstance(given, kind):
            raise InvalidArgument(
                f"expected a configuration, the name of a profile or an object of {kind.__name__}, got "
                f"{type(given).__name__}"
            )
        if shared:
            raise InvalidArgument(f"{next(iter(shared))} must be given to {given!r} itself")
        assert isinstance(given, LLMCore)
        return given

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.members))}])"

    @property
    def unsupported(self) -> frozenset[str]:
        """See `ParameterDefaults.unsupported`: what at least one member does not take."""
        return super().unsupported.union(*(member.unsupported for member in self.members))

    @property
    def context_len(self) -> int | None:
        """See `LLMCore.context_len`: the shortest one of the members."""
        return min((n for member in self.members if (n := member.context_len) is not None), default=None)

    @property
    def accepted_parts(self) -> AcceptedParts:
        """See `SendsParts.accepted_parts`: the members check the parts."""
        return EVERY_PART

    @property
    def not_copied(self) -> str:
        """See `CopiedByArguments`."""
        return next((reason for member in self.members if (reason := member.not_copied)), "")

    def secrets(self) -> tuple[str, ...]:
        """See `KeepsCalls.secrets`."""
        found = {secret for member in self.members for secret in member.secrets()}
        return tuple(sorted(found, key=len, reverse=True))

    def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`: what identifies the members, of which any may answer."""
        from ...core.recording import identity_of  # here: it loads a package

        return repr([(identity_of(member), getattr(member, "model_name", None)) for member in self.members])

    def attempts(self) -> Attempts:
        """See `LLMCore.attempts`: the members repeat."""
        return Attempts(RetryPolicy(max_retries=0), RetryBudget())

    # What members check and do themselves.

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`: every member must take the request, whichever will answer."""
        arguments = self.member_arguments(request)
        for member in self.members:
            with _naming(repr(member)):
                member.prepare(*arguments)

    def check_batch(self, calls: list[tuple[Input, dict[str, Any]]]) -> list[tuple[Input, dict[str, Any]]]:
        """See `LLMCore.check_batch`."""
        super().check_batch(calls)
        for member in self.members:
            with _naming(repr(member)):
                member.check_batch(calls)
        return calls

    def member_arguments(self, request: Request) -> tuple[Input, dict[str, Any]]:
        """The input and the parameters of the call that a member gets for `request`, a stateless one."""
        inputs = request.messages if request.prompt is None else request.prompt
        assert inputs is not None
        return inputs, {**self._given(request), "sequence_start": True, "sequence_end": True}

    def _given(self, call: Request | LLMCore) -> dict[str, Any]:
        """The parameters that were given to the constructor or to the call."""
        names = (call.params.given | call.options.given) - _OWN
        tables = {GenerationParams: call.params, CallOptions: call.options}
        return {name: getattr(tables[PARAMETERS[name].table], name) for name in names}

    def new_reader(self, request: Request) -> AnswerReader | None:
        """See `LLMCore.new_reader`."""
        return None

    def _checked(self, messages: Sequence[Message], mode: Mode, first: int) -> Sequence[Message]:
        return messages

    def _guarded_options(self, options: CallOptions, mode: Mode) -> CallOptions:
        return options


class _RoutingLLM(RoutingCore, BaseLLM):
    members: tuple[Any, ...]

    def _open(self, request: Request) -> Relay:
        return Relay(self.pool, *self.member_arguments(request), request.options)

    def _tokenize(self, text: str) -> list[int]:
        route = Route(self.pool)
        while True:
            with route.asked() as member:
                ids: list[int] = member.tokenize(text)
                return ids

    def _free(self) -> None:
        with ExitStack() as stack:  # all of them, even if one fails
            for member in self.members:
                stack.callback(member.close)


class _AsyncRoutingLLM(RoutingCore, AsyncBaseLLM):
    members: tuple[Any, ...]

    async def _open(self, request: Request) -> AsyncRelay:
        return AsyncRelay(self.pool, *self.member_arguments(request), request.options)

    async def _tokenize(self, text: str) -> list[int]:
        route = Route(self.pool)
        while True:
            with route.asked() as member:
                ids: list[int] = await member.tokenize(text)
                return ids

    async def _free(self) -> None:
        async with AsyncExitStack() as stack:
            for member in self.members:
                stack.push_async_callback(member.aclose)


class FallbackLLM(_RoutingLLM):
    """Members in order: the first one answers, the next one where it fails. The arguments: see its base."""


class AsyncFallbackLLM(_AsyncRoutingLLM):
    """Asynchronous `FallbackLLM`."""


class RouterLLM(_RoutingLLM):
    """Members by load: the one with the fewest calls in flight answers. The arguments: see its base."""

    balanced: ClassVar[bool] = True


class AsyncRouterLLM(_AsyncRoutingLLM):
    """Asynchronous `RouterLLM`."""

    balanced: ClassVar[bool] = True


@contextmanager
def _naming(where: str, argument: str = "") -> Iterator[None]:
    """Begin the messages of errors with `where`."""
    try:
        yield
    except LLMError as error:
        if not str(error).startswith(where):
            error.args = (f"{where}: {error}", *error.args[1:])
        if argument and isinstance(error, InvalidArgument):
            error.argument = argument
        raise
