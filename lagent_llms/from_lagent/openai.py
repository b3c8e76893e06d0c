"""lagent's `GPTAPI` over `OpenAIClient`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import validators
from ..backends.openai.client import AsyncOpenAIClient, OpenAIClient, OpenAICore
from ..errors import InvalidArgument, UnknownParameter
from ..params import PARAMETERS
from ..templates import APITemplateParser
from ..templates.api_roles import APIRoles

__all__ = ["GPTAPI", "AsyncGPTAPI"]

_ROLES = (
    {"role": "system", "api_role": "system"},
    {"role": "user", "api_role": "user"},
    {"role": "assistant", "api_role": "assistant"},
    {"role": "environment", "api_role": "system"},
)
#: lagent's defaults, which it sends to every model but those that take none.
_DEFAULTS = {"max_new_tokens": 512, "top_p": 0.8, "temperature": 0.8}
#: Arguments of OpenAIClient that have another name here.
_OURS = {"base_url": "api_base", "url": "api_base", "model": "model_type", "model_name": "model_type"} | {
    "api_key": "key",
    "organization": "org",
    "response_format": "json_mode",
}


class _GPTCore(OpenAICore):
    """A server with OpenAI's routes, with the arguments of lagent's ``GPTAPI``.

    Args:
        model_type: The server's name of the model.
        retry: Most retries of a call.
        json_mode: Whether answers are JSON objects.
        key: The API key; 'ENV' is OPENAI_API_KEY. A list may have one key.
        org: Header OpenAI-Organization. A list may have one name.
        meta_template: How roles are mapped: a list of dicts with ``role`` and ``api_role``, maybe with texts
            around the contents (``begin``, ``end``). None leaves messages unchanged.
        api_base: URL of the chat route, or of the server; None is that of `OpenAIClient`.
        proxies: See `HTTPCore`.
        openai_api_base: `api_base` under its name in lagent 0.2.
        template_parser: Makes the mapping of a meta template.
        **kwargs: Further arguments of `OpenAIClient`.

    Raises:
        InvalidArgument: An argument is not allowed.
    """

    is_api = True
    neutral_arguments = OpenAICore.neutral_arguments | {"api_base", "model_type", "openai_api_base", "org"}

    def __init__(
        self,
        model_type: str = "gpt-3.5-turbo",
        retry: Any = 2,
        json_mode: bool = False,
        key: str | Sequence[str] | None = "ENV",
        org: str | Sequence[str] | None = None,
        meta_template: Sequence[Mapping[str, Any]] | None = _ROLES,
        api_base: str | Sequence[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        *,
        openai_api_base: str | None = None,
        template_parser: Callable[[Any], Callable[[Any], Any]] = APITemplateParser,
        **kwargs: Any,
    ) -> None:
        if api_base is not None and openai_api_base is not None:
            raise InvalidArgument(
                "api_base and openai_api_base are the same; only one can be given", argument="openai_api_base"
            )
        for name in _OURS.keys() & kwargs:
            raise UnknownParameter(
                f"{type(self).__name__}: unknown parameter {name!r}, lagent's name is {_OURS[name]!r} "
                "(OpenAIClient has this library's names)"
            )
        if kwargs.pop("top_k", None) is not None:
            warnings.warn("GPTAPI sends no top_k; OpenAIClient can", DeprecationWarning, 2)
        penalty = kwargs.pop("repetition_penalty", None)
        if penalty not in (
            None,
            0,
            1,
        ):  # lagent sends it as frequency_penalty, which is a number from -2 to 2
            own = "frequency_penalty" if "frequency_penalty" in PARAMETERS else "repetition_penalty"
            kwargs[own] = penalty
        if validators.flag("json_mode", json_mode):
            kwargs["response_format"] = {"type": "json_object"}
        defaults = {} if str(model_type).startswith("o1") else _DEFAULTS
        self.model_type = model_type
        super().__init__(
            api_base if openai_api_base is None else openai_api_base,
            model_type,
            key=_only("key", key),
            organization=_only("org", org),
            meta_template=APIRoles(template_parser(meta_template)),
            proxies=proxies,
            **{"retry": retry, **defaults, **kwargs},
        )

    @classmethod
    def constructor_names(cls) -> frozenset[str]:
        """See `ParameterDefaults.constructor_names`."""
        return super().constructor_names() - _OURS.keys()


class GPTAPI(_GPTCore, OpenAIClient):
    """`OpenAIClient` with the arguments of lagent's ``GPTAPI``; see `_GPTCore`."""


class AsyncGPTAPI(_GPTCore, AsyncOpenAIClient):
    """Asynchronous `GPTAPI`."""


def _only(name: str, value: str | Sequence[str] | None) -> str | None:
    """The value, or the only one of a list.

    Raises:
        InvalidArgument: The list has several values, which lagent uses in turn.
    """
    if value is None or isinstance(value, str):
        return value
    if len(value) != 1:
        raise InvalidArgument(
            f"{name}: {len(value)} values; allowed is one (make a client of each)", argument=name
        )
    return value[0]
