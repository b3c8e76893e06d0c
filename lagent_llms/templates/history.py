"""What is kept of a dialog between two of its turns, and what a template makes of one turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidArgument
from ..messages import with_call_ids
from ..schema import Completion, Message

__all__ = ["Held", "History", "Rendered", "Written"]


class Written(NamedTuple):
    """The beginning of a dialog as a family writes it, from which the next turn continues.

    Attributes:
        text: The dialog without generation prompt and without closing text.
        begin: The part of `text` before the turns.
        messages: Number of messages in it.
        turns: Number of those that are turns.
        kinds: The roles of the turns.
        opens_with: Role of the first message.
        first_turn: Role of the first turn.
    """

    text: str
    begin: str
    messages: int
    turns: int
    kinds: frozenset[str]
    opens_with: str
    first_turn: str


@dataclass(frozen=True, slots=True)
class Held:
    """The part of a session that the server stores itself (turbomind behind Triton).

    Attributes:
        tokens: Its length in tokens.
        text: Its text.
        id: The server's id of the session.
    """

    tokens: int
    text: str
    id: int


@dataclass(frozen=True, slots=True)
class History:
    """A dialog so far.

    Attributes:
        messages: All messages; None once a turn was given as a bare prompt.
        text: Prompts and answers as the model saw them, so that a prefix cache hits; None where the server
            renders the messages.
        written: What a template needs to render only what is new; None makes it render all messages.
        held: What the server stores of the session; None where it stores nothing.
        continued: Whether the next answer continues the last message.
        opening: What comes before the messages of the first turn; None once there was one.
    """

    messages: tuple[Message, ...] | None = ()
    text: str | None = ""
    written: Written | None = None
    held: Held | None = None
    continued: bool = False
    opening: tuple[Message, ...] | None = None

    def answered(self, completion: Completion, message: Message, held: Held | None = None) -> History:
        """This history with the answer to its last prompt.

        Args:
            completion: The answer.
            message: The answer as a message of the dialog.
            held: What the server stores of the session now.
        """
        messages, text = self.messages, self.text
        if messages is not None:
            if self.continued:
                *before, opened = messages
                content = (opened.get("content") or "") + (message.get("content") or "")
                messages, message = tuple(before), {**opened, **message, "content": content}
            messages = tuple(with_call_ids((*messages, message)))
        if text is not None:
            text += completion.raw_text + (completion.stop_word or "")
        return History(messages, text, self.written, held)


def to_continue(message: Message) -> Message:
    """The last message of a dialog, which the model is to continue; its parts are joined.

    Raises:
        InvalidArgument: It is not the assistant's, or has no text.
    """
    content = message.get("content")
    if isinstance(content, (list, tuple)) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    ):
        content = "".join(part["text"] for part in content)
    if message["role"] == "assistant" and isinstance(content, str) and content:
        return {**message, "content": content}
    given = f"its role is {message['role']!r}" if message["role"] != "assistant" else "it has no text"
    raise InvalidArgument(
        f"continue_final_message=True: the last message must be the assistant's and have text, but {given}",
        argument="continue_final_message",
    )


class Rendered(NamedTuple):
    """One turn of a dialog, rendered.

    Attributes:
        prompt: The whole prompt, what was said before included.
        history: The dialog up to this prompt; for the next turn, once `History.answered` has completed it.
    """

    prompt: str
    history: History
