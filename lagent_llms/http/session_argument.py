"""Check the arguments `session=` and `proxies=` of backends without importing requests or aiohttp."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from ..errors import InvalidArgument

__all__ = ["check_proxies", "check_session"]


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


def check_proxies(proxies: object, session: object) -> dict[str, str]:
    """Return `proxies` as a dict, without those that are None; an empty dict for None.

    Args:
        proxies: The caller's argument, in the form of requests.
        session: The caller's session, which has proxies of its own.

    Raises:
        InvalidArgument: It has another form, or there is a session. The message shows no value: it may hold a
            password.
    """
    if not proxies:
        return {}
    if not isinstance(proxies, Mapping) or not all(
        isinstance(key, str) and isinstance(value, (str, type(None))) for key, value in proxies.items()
    ):
        raise InvalidArgument(
            "proxies: allowed is None or a dict of URLs such as {'https': 'http://proxy:3128'}",
            argument="proxies",
        )
    if session is not None:
        raise InvalidArgument(
            "proxies and session are both given; set the proxies of the session", argument="proxies"
        )
    return {key: value for key, value in proxies.items() if value}
