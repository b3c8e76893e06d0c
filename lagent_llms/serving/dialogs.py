"""Messages for a backend, made of the items or blocks that an API has for a dialog. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .. import validators
from ..errors import InvalidArgument, UnsupportedParameter

__all__ = ["Dialog"]

_URL = re.compile(r"https?://|data:image/[\w.+-]+;base64,", re.IGNORECASE)


class Dialog:
    """Builds the messages of a dialog in the form of /v1/chat/completions.

    Reasoning, a text and tool calls of an assistant that follow each other become one message.

    Args:
        images: True if the backend takes images.

    Attributes:
        messages: The messages so far.
    """

    def __init__(self, *, images: bool = False) -> None:
        self.messages: list[dict[str, Any]] = []
        self._images = images

    def say(self, role: str, parts: Sequence[str | dict[str, Any]]) -> None:
        """Add a text, or a text with images.

        Args:
            role: Its role.
            parts: Texts, and images as `image` returns them.
        """
        content: Any = "".join(part for part in parts if isinstance(part, str))
        if any(isinstance(part, dict) for part in parts):
            content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
        if role != "assistant":
            self.messages.append({"role": role, "content": content})
            return
        message = self._assistant()
        if message["content"] is not None or "tool_calls" in message:
            message = self._new_assistant()
        message["content"] = content

    def reason(self, text: str) -> None:
        """Add reasoning of the assistant."""
        message = self._assistant()
        message["reasoning_content"] = message.get("reasoning_content", "") + text

    def call(self, identifier: str, name: str, arguments: str) -> None:
        """Add a tool call of the assistant; `arguments` is a JSON object."""
        call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._assistant().setdefault("tool_calls", []).append(call)

    def result(self, identifier: str, text: str) -> None:
        """Add the result of a tool call."""
        self.messages.append({"role": "tool", "tool_call_id": identifier, "content": text})

    def image(self, url: object, where: str, argument: str) -> dict[str, Any]:
        """An image as a part of a content.

        Args:
            url: An http, https or data URL.
            where: Its place in the request, for errors.
            argument: The field of the request.

        Raises:
            InvalidArgument: `url` is no such URL.
            UnsupportedParameter: The backend takes no images.
        """
        if not isinstance(url, str) or not _URL.match(url):
            raise InvalidArgument(
                f"{where}: {validators.shown(url)} is no image: allowed is an http, https or data URL",
                argument=argument,
            )
        if not self._images:
            raise UnsupportedParameter(f"{where}: the served model takes no images", parameter=argument)
        return {"type": "image_url", "image_url": {"url": url}}

    def finished(self) -> list[dict[str, Any]]:
        """The messages; an assistant that said nothing and called nothing has an empty content."""
        for message in self.messages:
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""
        return self.messages

    def _assistant(self) -> dict[str, Any]:
        if self.messages and self.messages[-1]["role"] == "assistant":
            return self.messages[-1]
        return self._new_assistant()

    def _new_assistant(self) -> dict[str, Any]:
        self.messages.append({"role": "assistant", "content": None})
        return self.messages[-1]
