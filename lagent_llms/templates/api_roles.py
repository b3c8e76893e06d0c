"""lagent's meta templates for servers with a chat route: they name roles and hold no texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..schema import Message

__all__ = ["APIRoles", "api_roles"]


class APIRoles(NamedTuple):
    """A value of ``meta_template``: how roles are mapped, and the template of the mapped messages.

    Attributes:
        parser: Maps the roles of a dialog, as `APITemplateParser` does; None leaves the messages unchanged.
        template: As ``meta_template``; None leaves it to the model or its server.
    """

    parser: Callable[[Sequence[Message]], Any] | None
    template: Any = None


def api_roles(meta_template: Any, own_template: Callable[[], Any] = lambda: None) -> APIRoles:
    """The role mapping and the template that an argument ``meta_template`` means.

    Args:
        meta_template: The argument; lagent's list of dicts with ``api_role`` and without texts maps roles.
        own_template: Returns the template of the model, where the argument gives none.

    Raises:
        TemplateError: The list is not valid.
    """
    if isinstance(meta_template, APIRoles):
        template = meta_template.template
        return meta_template._replace(template=own_template() if template is None else template)
    if isinstance(meta_template, (list, tuple)):
        from .parsers import APITemplateParser, is_api_form  # here, to keep the package's import fast

        if is_api_form(meta_template):
            return APIRoles(APITemplateParser(meta_template), own_template())
    return APIRoles(None, own_template() if meta_template is None else meta_template)
