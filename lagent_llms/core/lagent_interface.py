"""The attributes of lagent's models that its subclasses and OpenCompass' adapters read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .. import validators
from ..errors import InvalidArgument

if TYPE_CHECKING:
    from ..params import CallOptions, GenerationParams
    from ..schema import Message
    from ..templates import ChatTemplate

__all__ = ["LagentInterface"]

#: The parameters in lagent's ``gen_params``.
_LAGENTS = ("max_new_tokens", "top_p", "top_k", "temperature", "repetition_penalty", "stop_words")
#: OpenCompass' usual roles, for a template that does not name them.
_OPENCOMPASS_ROLES = {"SYSTEM": "system", "HUMAN": "user", "BOT": "assistant"}


class LagentInterface:
    """What lagent's ``BaseLLM`` has beside its calls.

    Attributes:
        parse_roles: Maps the roles of messages, None where the meta template maps none.
    """

    takes_messages: ClassVar[bool]
    params: GenerationParams
    options: CallOptions
    template: ChatTemplate | None
    parse_roles: Callable[[Sequence[Message]], Any] | None

    @cached_property
    def template_parser(self) -> Callable[..., Any]:
        """Makes what the model gets of messages: a prompt, or for a chat route messages with mapped roles."""
        if self.parse_roles is not None and self.template is None:
            return self.parse_roles
        from ..templates import APITemplateParser, LMTemplateParser  # here, to keep the import fast

        if self.template is None:
            return APITemplateParser() if self.takes_messages else LMTemplateParser()
        if self.parse_roles is None:
            return LMTemplateParser(self.template)
        return partial(_render_with_roles, self.parse_roles, LMTemplateParser(self.template))

    @cached_property
    def gen_params(self) -> Mapping[str, Any]:
        """The defaults of calls, read-only; where the server's defaults hold, only those that were given."""
        defaults = () if self.options.sampling == "server" else _LAGENTS
        names = [*defaults, *sorted(self.params.given.difference(defaults))]
        values = {name: getattr(self.params, name) for name in names}
        return MappingProxyType(
            {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        )

    def update_gen_params(self, **kwargs: Any) -> dict[str, Any]:
        """`gen_params` with `kwargs` in it, as a new dict; the object is not changed."""
        return {**self.gen_params, **kwargs}

    def parse_template(self, prompt_template: Any, mode: str = "gen") -> Any:
        """Make of an OpenCompass prompt template what the model gets; see `template_parser`.

        Args:
            prompt_template: A prompt; messages, whose text is ``prompt`` or ``content``, with OpenCompass'
                markers of sections; or a list of either. Roles that the meta template does not name are
                HUMAN for the user, BOT for the assistant and SYSTEM.
            mode: 'gen' leaves out answers at the end, for the model to write; 'ppl' keeps them.

        Returns:
            A prompt or messages, or a list of either.

        Raises:
            InvalidArgument: An argument has another form.
            TemplateError: The template does not allow this dialog.
        """
        if mode not in ("gen", "ppl"):
            raise validators.refusal("mode", mode, "'gen' or 'ppl'")
        if isinstance(prompt_template, str):
            return prompt_template
        items = validators.listed(prompt_template)
        if items is None:
            raise InvalidArgument(
                "prompt_template: expected a prompt, messages or a list, got "
                f"{type(prompt_template).__name__}",
                argument="prompt_template",
            )
        if not any(isinstance(item, Mapping) for item in items):
            if type(prompt_template) in (list, tuple):
                return [self.parse_template(item, mode) for item in items]
            return "".join(map(str, items))  # OpenCompass' PromptList of strings
        messages = self._messages_of(items)
        while mode == "gen" and len(messages) > 1 and messages[-1]["role"] in ("assistant", "BOT"):
            messages.pop()
        open_turn = {"add_generation_prompt": False} if mode == "ppl" and self.template is not None else {}
        return self.template_parser(messages, **open_turn)

    def _messages_of(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """OpenCompass' items as messages: markers of sections and empty strings are left out."""
        known = set() if self.template is None else set(self.template.roles)
        known.update(getattr(self.parse_roles, "roles", ()))
        messages = []
        for item in items:
            if isinstance(item, str):
                if item.strip():
                    messages.append({"role": "user", "content": item})
                continue
            if "section" in item and "role" not in item:
                continue
            names = [item.get("role"), item.get("fallback_role")]
            names = [_OPENCOMPASS_ROLES.get(str(name), name) if name not in known else name for name in names]
            is_known = not known or "*" in known or names[0] in known or names[1] is None
            content = item.get("prompt", item.get("content"))
            messages.append({"role": names[0] if is_known else names[1], "content": content})
        return messages


def _render_with_roles(
    parse_roles: Callable[[Any], Any], render: Callable[..., str], messages: Any, **options: Any
) -> str:
    """The prompt of messages whose roles are mapped first."""
    return render(messages if isinstance(messages, str) else parse_roles(messages), **options)
