"""lagent's `BaseAPILLM`: the base of applications' own clients of servers with a chat route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from ..core.base import AsyncBaseLLM, BaseLLM
from ..core.llm import LLMCore
from ..templates import APITemplateParser
from ..templates.api_roles import APIRoles

__all__ = ["AsyncBaseAPILLM", "BaseAPILLM"]


class _APICore(LLMCore):
    """The constructor and the attributes of lagent's ``BaseAPILLM``.

    A subclass defines ``generate`` (of what `template_parser` returns) or ``chat``, and ``stream_chat``, as
    in lagent; or ``_open``, as every backend here (docs/adding_a_backend.md), and has all calls of `BaseLLM`.

    Args:
        model_type: Name of the model.
        retry: Most retries of a call.
        template_parser: Makes the mapping of roles of a meta template.
        meta_template: A list of dicts with ``role`` and ``api_role``; None leaves messages unchanged.
        repetition_penalty: 0.0, lagent's default, is no penalty.
        **gen_params: Defaults of any other parameter of a call.

    Attributes:
        gen_params: The parameters of a call without its own: a dict, as in lagent.
    """

    is_api = True
    takes_messages = True

    def __init__(
        self,
        model_type: str,
        retry: int = 2,
        template_parser: Callable[[Any], Callable[[Any], Any]] = APITemplateParser,
        meta_template: Sequence[Mapping[str, Any]] | None = None,
        *,
        repetition_penalty: float = 0.0,
        **gen_params: Any,
    ) -> None:
        super().__init__(
            meta_template=APIRoles(template_parser(meta_template)),
            retry=retry,
            repetition_penalty=repetition_penalty or 1.0,
            **gen_params,
        )
        self.model_type, self.retry, self.meta_template = model_type, retry, meta_template
        self.gen_params = {
            **self.gen_params,
            "repetition_penalty": repetition_penalty,
            "skip_special_tokens": self.params.skip_special_tokens,
        }

    def _refuse(self) -> NoReturn:
        # Not abstract methods: a subclass defines one of several sets of methods, as in lagent.
        raise NotImplementedError(
            f"{type(self).__name__}: define generate or chat, and stream_chat, as in lagent; or _open "
            "(docs/adding_a_backend.md)"
        )

    def _parsed(self, inputs: Any) -> Any:
        """The dialog, or each of several, as lagent gives it to ``generate``."""
        if inputs and isinstance(inputs[0], (list, tuple)):
            return [self.template_parser(messages) for messages in inputs]
        return self.template_parser(inputs)


class BaseAPILLM(_APICore, BaseLLM):
    """The base class of an application's own client, as in lagent; see `_APICore`."""

    def chat(self, inputs: Any, session_ids: Any = None, **kwargs: Any) -> Any:
        """Answer a dialog or several with the ``generate`` of a subclass, else as `BaseLLM.chat`."""
        if type(self).generate is BaseLLM.generate:
            return super().chat(inputs, session_ids, **kwargs)
        return self.generate(self._parsed(inputs), **kwargs)

    def _open(self, request: Any) -> NoReturn:
        self._refuse()

    def _tokenize(self, text: str) -> NoReturn:
        self._refuse()


class AsyncBaseAPILLM(_APICore, AsyncBaseLLM):
    """Asynchronous `BaseAPILLM`."""

    async def chat(self, inputs: Any, session_ids: Any = None, **kwargs: Any) -> Any:
        """See `BaseAPILLM.chat`."""
        if type(self).generate is AsyncBaseLLM.generate:
            return await super().chat(inputs, session_ids, **kwargs)
        return await self.generate(self._parsed(inputs), session_ids, **kwargs)

    async def _open(self, request: Any) -> NoReturn:
        self._refuse()

    async def _tokenize(self, text: str) -> NoReturn:
        self._refuse()
