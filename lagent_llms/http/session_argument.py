"""Check the `session=` argument of backends without importing requests or aiohttp."""

from __future__ import annotations

import sys

from ..errors import InvalidArgument

__all__ = ["check_session"]


def check_session(session: object, allowed: str) -> None:
    """Raise unless `session` is None or an instance of `allowed`.

    Args:
        session: The caller's argument; None is always allowed.
        allowed: ``'requests.Session'`` or ``'aiohttp.ClientSession'``.

    Raises:
        InvalidArgument: `session` is neither None nor an instance of `allowed`.
    """
    module, _, name = allowed.partition(".")
    # An instance can only exist if its module has been imported.
    if session is not None and not isinstance(session, getattr(sys.modules.get(module), name, ())):
        kind = type(session)
        raise InvalidArgument(
            f"session={kind.__module__}.{kind.__qualname__}: allowed is a {allowed} or None",
            argument="session",
        )
