"""The jinja2 environment for chat templates: that of transformers, within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, generate_lorem_ipsum

from .limits import SMALL, Budget, LimitExceeded, Uncounted
from .sandbox_code import CountingCodeGenerator
from .sandbox_filters import counted_filters, counted_tests
from .sandbox_methods import format_text, percent, string_method

__all__ = ["Sandbox", "environment"]

#: Largest integer that an operation may make, in bits.
_MAX_BITS = 16_384
#: Most words of `lipsum`.
_MAX_WORDS = 100_000
_ATTRIBUTES_OF_DICT = frozenset(dir(dict))
_METHODS_OF_NUMBERS = frozenset(("bit_length", "bit_count", "conjugate", "is_integer", "decode", "hex"))
_VARIABLES = frozenset(("_loop_vars", "_block_vars"))
_SCALARS = frozenset((str, int, float, bool, type(None)))
#: Attributes of `loop` that are neither methods nor private.
_LOOP = frozenset(
    ("index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem")
)


class _Generation(Extension):
    """``{% generation %} … {% endgeneration %}``, which marks the assistant's text; renders its body."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Parse the block; see `jinja2.ext.Extension.parse`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Any) -> str:
        return str(caller())


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _Dict:
    """``dict(…)`` for templates, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """See `dict.fromkeys`."""
        return dict.fromkeys(*args)


class _Namespace(Namespace, Uncounted):
    """``namespace(…)`` that rejects names with a leading underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as in jinja2: 'self' may be an attribute
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            if isinstance(name, str) and name.startswith("_"):
                raise jinja2.exceptions.SecurityError(
                    f"a namespace cannot hold {name!r}: names must not begin with an underscore"
                )
        Namespace.__init__(args[0], attributes)

    def counted(self) -> Any:
        """See `Uncounted`."""
        return self._Namespace__attrs  # the base class hides every other attribute


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    """See jinja2's function of this name."""
    if n * max > _MAX_WORDS:
        raise LimitExceeded("output", f"asks for more than {_MAX_WORDS} words")
    return generate_lorem_ipsum(n, html, min, max)


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, with a budget for what a template makes.

    Attributes:
        budget: Of the rendering that runs in this thread.
    """

    code_generator_class = CountingCodeGenerator
    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False
        )
        self.budget = Budget()
        self.repeated = self.budget.repeated
        self.filters: dict[str, Any] = counted_filters(self.budget, self.filters)
        self.tests: dict[str, Any] = counted_tests(self.budget, self.tests)
        self.globals.update(
            raise_exception=_raise_exception, dict=_Dict(), namespace=_Namespace, lipsum=_lipsum
        )
        self.concat = self._concat  # type: ignore[method-assign]

    # Called by the code of templates, see `CountingCodeGenerator`.

    def counted(self, value: Any) -> Any:
        """Count a text or a list that was made."""
        if isinstance(value, str):
            self.budget.text(len(value))
        elif isinstance(value, (list, tuple, dict, bytes)):
            self.budget.entries(len(value))
        return value

    def checked(self, value: Any) -> Any:
        """`value`, which is about to be compared, hashed or converted."""
        if type(value) not in _SCALARS:
            self.budget.weigh(value)
        return value

    def add(self, first: Any, *others: Any) -> Any:
        """Add values, from the left."""
        for other in others:
            first = first + other
            if type(first) is not str or len(first) >= SMALL:
                self.counted(first)
        return first

    def text(self, *values: Any) -> str:
        """Join values as text."""
        texts = [value if type(value) is str else str(self.checked(value)) for value in values]
        if (length := sum(map(len, texts))) >= SMALL:
            self.budget.text(length)
        return "".join(texts)

    def _concat(self, pieces: Iterable[str]) -> str:
        if isinstance(pieces, list):
            self.budget.text(sum(map(len, pieces)))
            return "".join(pieces)
        return self.budget.joined(pieces)

    # What jinja2 calls.

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """See `SandboxedEnvironment.call_binop`."""
        if operator == "%":
            percent(self.budget, left, right)
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_BITS:
                raise LimitExceeded("output", "computes a power that is too large")
        elif isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _MAX_BITS:
                raise LimitExceeded("output", "computes a product that is too large")
        else:
            length = max((len(item) for item in (left, right) if hasattr(item, "__len__")), default=0)
            count = max((item for item in (left, right) if isinstance(item, int)), default=0)
            self.budget.text(length * count)
            if not isinstance(left, str) and not isinstance(right, str):
                self.budget.entries(length * count)
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """See `SandboxedEnvironment.getattr`; faster for dicts, namespaces and `loop`."""
        kind = type(obj)
        if kind is dict and attribute not in _ATTRIBUTES_OF_DICT:
            try:
                return obj[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
        if (kind is LoopContext and attribute in _LOOP) or (kind is _Namespace and attribute[:1] != "_"):
            try:
                return getattr(obj, attribute)
            except AttributeError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """See `SandboxedEnvironment.wrap_str_format`."""
        if type(value) in _SCALARS or (wrapper := super().wrap_str_format(value)) is None:
            return None

        def counted(*args: Any, **kwargs: Any) -> str:
            is_map = value.__name__ == "format_map" and args and isinstance(args[0], dict)
            format_text(self.budget, value.__self__, () if is_map else args, args[0] if is_map else kwargs)
            return wrapper(*args, **kwargs)

        return counted

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """See `SandboxedEnvironment.call`."""
        budget, kind, given = __self.budget, type(__obj), kwargs
        if kwargs:  # jinja2 passes the variables of loops and blocks too, for functions that take the context
            given = {name: value for name, value in kwargs.items() if name not in _VARIABLES}
        if kind is BuiltinMethodType or kind is MethodType:
            owner = __obj.__self__
            if isinstance(owner, str):
                return string_method(budget, __obj, args, given)
            if type(owner) is dict and type(args[0] if args else "") is str:
                return __obj(*args, **given)
            if isinstance(owner, (int, bytes)) and __obj.__name__ not in _METHODS_OF_NUMBERS:
                raise LimitExceeded("output", f"calls {__obj.__name__} of {type(owner).__name__}")
        elif issubclass(kind, (Macro, BlockReference, LoopContext)):
            budget.enter()
            budget.work(8)
            try:
                return super().call(__context, __obj, *args, **kwargs)
            finally:
                budget.leave()
        for value in (*args, *given.values()):
            __self.checked(value)
        return __self.counted(super().call(__context, __obj, *args, **kwargs))


@lru_cache(maxsize=1)
def environment() -> Sandbox:
    """The environment, created once."""
    return Sandbox()
