"""Read a configuration file (YAML or TOML, also as editors on Windows write them); expand its values."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

__all__ = ["expand", "parse_value", "read_config", "read_files"]

#: What PyYAML and tomllib raise for a value of a type that it is not (`2024-13-45`, a number of 5000 digits).
_BAD_VALUE = (ValueError, AttributeError, RecursionError)

#: How a value begins that is the path of a file with the value, and most bytes of that file.
_FILE, _LONGEST_SECRET = "file:", 1 << 16

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")


def read_config(path: Path) -> Any:
    """The content of a file that ends in .yaml, .yml or .toml.

    Raises:
        ConfigError: The file cannot be read, or has two values for one key.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte or half a character in the path
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ConfigError(f"{path}: is UTF-16 or no text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8 text; save it as UTF-8") from error
    parse = {".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml}.get(path.suffix)
    if parse is None:
        raise ConfigError(f"{path}: a configuration file ends in .yaml, .yml or .toml")
    try:
        return parse(text, path)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except _BAD_VALUE as error:
        raise ConfigError(f"{path}: a value cannot be read: {error}") from error


def parse_value(text: str) -> Any:
    """The value that `text` is in YAML.

    Raises:
        ValueError: It is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, *_BAD_VALUE) as error:
        raise ValueError(f"not YAML: {error}") from error


def expand(value: Any, where: str, strings: bool = True) -> Any:
    """`value` with ``${NAME}`` and ``${NAME:-default}`` replaced from the environment, at any depth.

    A value that is one reference only, for a parameter that takes no string, is parsed as YAML:
    ``session_len: ${SESSION_LEN}`` becomes a number.

    Args:
        value: A value of a configuration.
        where: Its file and key, for messages.
        strings: Whether the parameter may be a string.

    Raises:
        ConfigError: A variable is not set, or its value is not YAML.
    """
    if isinstance(value, Mapping):
        return {key: expand(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"])
        if not found and match["default"] is not None:  # as in a shell: a variable without a value too
            return match["default"]
        if found is None:
            raise ConfigError(f"{where}: the environment variable {match['name']} is not set")
        return found

    text = _REFERENCE.sub(replacement, value)
    if not strings and text != value and _REFERENCE.fullmatch(value):
        try:
            return parse_value(text)
        except ValueError:  # not shown: it may be secret
            raise ConfigError(f"{where}: the value of {value} is not YAML") from None
    return text


def read_files(value: Any, where: str) -> Any:
    """`value` with ``file:PATH`` replaced by the content of the file, at any depth.

    A line end at the end of the content is removed. No message shows any of it.

    Args:
        value: A value of a configuration.
        where: Its file and key, for messages.

    Raises:
        ConfigError: The file cannot be read, is empty, too long, or no text.
    """
    if isinstance(value, Mapping):
        return {key: read_files(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [read_files(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str) or not value.startswith(_FILE):
        return value
    path = value.removeprefix(_FILE)
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(_LONGEST_SECRET + 1)
        if len(content) > _LONGEST_SECRET:
            raise ValueError(f"it has more than {_LONGEST_SECRET} bytes")
        text = content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:  # its message has bytes of the file
        raise ConfigError(f"{where}: {path}: is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where}: {path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not text:
        raise ConfigError(f"{where}: {path}: is empty")
    return text


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        root: Any = loader.get_single_node()
        if root is None:
            return None
        _check_yaml(root, str(path), set(), set())
        _keep_names(root)
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error


def _check_yaml(node: Any, path: str, around: set[int], done: set[int]) -> None:
    """Refuse a key that is given twice, and an alias of what is around it.

    Args:
        node: A node of PyYAML.
        path: The file.
        around: Identities of the nodes around this one.
        done: Identities of the nodes that were checked.
    """
    line = f"{path}, line {node.start_mark.line + 1}"
    if id(node) in around:
        raise ConfigError(f"{line}: contains an alias of itself")
    if id(node) in done or not isinstance(node.value, list):
        return
    around.add(id(node))
    names = set()
    for item in node.value:
        for part in item if isinstance(item, tuple) else (item,):
            _check_yaml(part, path, around, done)
        if isinstance(item, tuple) and isinstance(name := item[0].value, str):
            if name in names:
                raise ConfigError(
                    f"{path}, line {item[0].start_mark.line + 1}: the key {name!r} is given twice"
                )
            names.add(name)
    around.discard(id(node))
    done.add(id(node))


def _keep_names(root: Any) -> None:
    """Take the names of profiles as they are written: ``no`` and ``1`` are no booleans and numbers there."""
    for key, value in root.value if root.id == "mapping" else ():
        if key.value == "profiles" and value.id == "mapping":
            names = [name for name, _ in value.value if name.value != "<<"]
        elif key.value == "default" and value.value not in ("", "~", "null"):
            names = [value]
        else:
            continue
        for name in names:
            if name.id == "scalar":
                name.tag = "tag:yaml.org,2002:str"


def _parse_toml(text: str, path: Path) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        if "overwrite" in message or "twice" in message:  # does not name the key
            line = re.search(r"line (\d+)", message)
            named = text.splitlines()[int(line[1]) - 1].partition("=")[0].strip() if line else ""
            message = f"the key {named!r} is given twice: {message}"
        raise ConfigError(f"{path}: {message}") from error
