"""What a backend does with images, audio and files in messages: send them, or refuse them by name."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from ..content_parts import AcceptedParts, accept_parts

if TYPE_CHECKING:
    from ..schema import Message
    from ..templates import ChatTemplate

__all__ = ["CONTENT", "SendsParts"]

CONTENT = itemgetter("content")


class SendsParts:
    """The parts of contents that one backend sends besides text."""

    template: ChatTemplate | None

    @property
    def accepted_parts(self) -> AcceptedParts:
        """The parts that are sent where the server renders messages; a template of ours writes text only."""
        return AcceptedParts()

    def _with_accepted_parts(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Messages with contents that are lists, with their parts in the form that the backend takes.

        Raises:
            UnsupportedParameter: It does not take one.
        """
        name = type(self).__name__
        if self.template is None:
            return accept_parts(messages, self.accepted_parts, name)
        return accept_parts(messages, AcceptedParts(), f"{name} with a meta_template")
