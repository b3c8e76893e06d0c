"""Dialogs in files: JSON with a version, readable by its owner only, replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from .. import validators
from ..errors import ConfigError, InvalidArgument
from ..messages import check_messages
from ..schema import Message

__all__ = ["read_messages", "write_messages"]

_FORMAT = "lagent_llms.session"
_VERSION = 1


def write_messages(path: str | os.PathLike[str], messages: Sequence[Message]) -> None:
    """Write a dialog to a file; the file is replaced once all is written.

    Args:
        path: The file. Its folder must exist; a symbolic link is followed.
        messages: The dialog, as `check_messages` returns it.

    Raises:
        InvalidArgument: `path` is no path.
        ConfigError: The file cannot be written; a former one is unchanged.
    """
    target = os.path.realpath(_checked_path(path))
    content = {"format": _FORMAT, "version": _VERSION, "messages": [*messages]}
    # Halves of characters, which models can write, become escapes of JSON.
    data = json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
    temporary = ""
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            raise OSError("it is no regular file")
        folder, name = os.path.split(target)
        descriptor, temporary = tempfile.mkstemp(".tmp", f".{name}.", folder)  # mode 0600
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise ConfigError(
                f"the session cannot be saved to {target}: {error.strerror or error}"
            ) from error
        raise


def read_messages(path: str | os.PathLike[str]) -> list[Message]:
    """Return the dialog in a file that `write_messages` has written.

    Raises:
        InvalidArgument: `path` is no path.
        ConfigError: The file cannot be read, is no saved session, or one of a later version.
    """
    file = _checked_path(path)
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            raise OSError("it is no regular file")
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise ConfigError(f"the session {file} cannot be read: {error.strerror or error}") from error
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no saved session: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f'{file} is no saved session: its "format" is not "{_FORMAT}"')
    if content.get("version") != _VERSION:
        version = validators.shown(content.get("version"))
        raise ConfigError(f"the session {file} has version {version}; this release reads version {_VERSION}")
    try:
        return check_messages(messages, "messages") if (messages := content.get("messages")) != [] else []
    except InvalidArgument as error:
        raise ConfigError(f"the session {file} is damaged: {error}") from error


def _checked_path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InvalidArgument(
            f"path={validators.shown(path)}: allowed is the path of a file, such as 'dialog.json'",
            argument="path",
        )
    return os.path.expanduser(os.fsdecode(path))
