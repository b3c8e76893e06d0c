"""How the pages write a prompt: in the configuration's formats, or in the model's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .config import JAXServerConfig

if TYPE_CHECKING:
    from ..meta_template import ChatTemplate
    from .jax_server import JAXServer

__all__ = ["chat_prompt", "instruct_prompt", "pairs_of"]

_CHAT_FORMATS = ("chat_format", "chat_prefix", "prompt_prefix_chat", "prompt_postfix_chat", "system_prefix")
_INSTRUCT_FORMATS = ("instruct_format", "prompt_prefix_instruct", "prompt_postfix_instruct", "system_prefix")


def chat_prompt(server: JAXServer, prompt: str, history: Sequence[tuple[str, str]], system: str) -> str:
    """The whole prompt of a chat.

    Args:
        server: Whose formats it is written in.
        prompt: The new message.
        history: Earlier (message, answer) pairs.
        system: The system message; '' is none.
    """
    overridden = ("process_chat_history", "format_chat")
    if (template := _own_template(server, _CHAT_FORMATS, overridden)) is None:
        before = server.config.system_prefix + system if system else ""
        return before + server.format_chat(prompt, history)
    turns = [
        {"role": role, "content": text} for pair in history for role, text in zip(_ROLES, pair, strict=True)
    ]
    return _rendered(template, system, [*turns, {"role": "user", "content": prompt}])


def instruct_prompt(server: JAXServer, prompt: str, system: str) -> str:
    """The whole prompt of an instruction; see `chat_prompt`."""
    if (template := _own_template(server, _INSTRUCT_FORMATS, ("format_instruct",))) is None:
        return server.format_instruct(prompt, system)
    return _rendered(template, system, [{"role": "user", "content": prompt}])


def pairs_of(messages: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The (message, answer) pairs of a chatbot's messages; a message without an answer is left out."""
    pairs, asked = [], None
    for message in messages:
        if message["role"] == "user":
            asked = _text(message["content"])
        elif asked is not None:
            pairs.append((asked, _text(message["content"])))
            asked = None
    return pairs


_ROLES = ("user", "assistant")


def _own_template(
    server: JAXServer, formats: tuple[str, ...], methods: tuple[str, ...]
) -> ChatTemplate | None:
    """The model's chat template, unless the server's owner has said how prompts are written."""
    from .jax_server import JAXServer

    plain = JAXServerConfig()
    said = any(getattr(server.config, name) != getattr(plain, name) for name in formats)
    overridden = any(
        name in vars(server) or getattr(type(server), name) is not getattr(JAXServer, name)
        for name in methods
    )
    raw = not server.config.contains_auto_format
    return None if said or overridden or raw else server.template


def _rendered(template: ChatTemplate, system: str, messages: list[dict[str, str]]) -> str:
    first = [{"role": "system", "content": system}] if system else []
    return template.render([*first, *messages], add_generation_prompt=True)


def _text(content: Any) -> str:
    """The text of a message's content, which gradio writes as a string or as parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
