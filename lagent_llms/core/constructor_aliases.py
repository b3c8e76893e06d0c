"""OpenAI's names of constructor arguments, accepted by every backend that has these arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..copying import CopiedByArguments
from ..errors import InvalidArgument
from .parameters import ParameterDefaults

__all__ = ["CONSTRUCTOR_ALIASES", "AcceptsAliases"]

#: OpenAI's names, and what a backend may call them: the first name that it has is meant.
CONSTRUCTOR_ALIASES: Mapping[str, tuple[str, ...]] = {
    "base_url": ("url", "tritonserver_addr"),
    "model": ("path", "model_name"),
}


class AcceptsAliases(CopiedByArguments, ParameterDefaults):
    """Base of objects whose constructors accept `CONSTRUCTOR_ALIASES`; copies get the names of the class."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _accepting(vars(cls)["__init__"]))  # noqa: B010  (mypy refuses the assignment)

    @classmethod
    def canonical(cls, given: Mapping[str, Any], positional: Collection[str] = ()) -> dict[str, Any]:
        """`given`, constructor arguments, under the names of this class.

        Args:
            given: The arguments by name.
            positional: The names of those given by position.

        Raises:
            InvalidArgument: An argument is given under two names.
        """
        plain, names = dict(given), cls.constructor_names()
        for alias in CONSTRUCTOR_ALIASES.keys() & given.keys() - names:
            name = next((name for name in CONSTRUCTOR_ALIASES[alias] if name in names), None)
            if name is None or (
                alias == "base_url" and "path" in names
            ):  # the URL is this class's own affair
                continue
            value = plain.pop(alias)
            if value is not None and (name in positional or plain.get(name) is not None):
                raise InvalidArgument(
                    f"{alias} and {name} are the same; only one can be given", argument=alias
                )
            if value is not None:
                plain[name] = value
        return plain


def _accepting(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that accepts the aliases, and names them in errors as the caller does."""

    @functools.wraps(init)
    def construct(self: AcceptsAliases, *args: Any, **kwargs: Any) -> None:
        if CONSTRUCTOR_ALIASES.keys().isdisjoint(kwargs):
            init(self, *args, **kwargs)
            return
        positional = list(inspect.signature(init).parameters)[1 : 1 + len(args)]
        plain = type(self).canonical(kwargs, positional)
        if type(self).__init__ is construct:
            self._arguments = args, plain
        try:
            init(self, *args, **plain)
        except InvalidArgument as error:
            used = {name: alias for alias in kwargs.keys() - plain for name in CONSTRUCTOR_ALIASES[alias]}
            if (alias := used.get(error.argument)) is None:
                raise
            raise InvalidArgument(str(error).replace(error.argument, alias, 1), argument=alias) from error

    return construct
