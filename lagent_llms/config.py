"""`create_llm`: make a backend from a file, a dict or the environment.

A configuration is a mapping with ``type`` (the backend) and the backend's own parameters. A file holds one
configuration, or several named ones::

    default: local
    profiles:
      local: {type: JAXPipeline, temperature: 0}
      prod:  {type: LMDeployClient, url: "${LLM_URL:-http://127.0.0.1:23333}", api_key: "${LLM_KEY}"}
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .core.llm import LLMCore
from .errors import ConfigError, InvalidArgument, nearest
from .params import PARAMETERS, suggestion
from .registry import find_backend

if TYPE_CHECKING:
    from .core.base import AsyncBaseLLM, BaseLLM

__all__ = ["EMBEDDED", "create_llm", "load_config"]

#: The configuration used when nothing is configured: the embedded model, greedy.
EMBEDDED: Mapping[str, Any] = {"type": "JAXPipeline", "temperature": 0}

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")

Source = str | os.PathLike[str] | Mapping[str, Any]


@overload
def create_llm(
    config: Source | None = ...,
    *,
    profile: str | None = ...,
    asynchronous: Literal[False] = ...,
    **overrides: Any,
) -> BaseLLM: ...
@overload
def create_llm(
    config: Source | None = ..., *, profile: str | None = ..., asynchronous: Literal[True], **overrides: Any
) -> AsyncBaseLLM: ...
def create_llm(
    config: Source | None = None, *, profile: str | None = None, asynchronous: bool = False, **overrides: Any
) -> Any:
    """Make the backend that a configuration describes.

    Args:
        config: A YAML or TOML file, a dict, or None: the file named by the environment variable
            LAGENT_LLM_CONFIG, or the embedded model if that is not set.
        profile: Name of a profile of the file; None takes LAGENT_LLM_PROFILE, else the file's ``default``.
        asynchronous: Make the asynchronous twin.
        **overrides: Parameters that replace the configuration's.

    Returns:
        A `BaseLLM`, or an `AsyncBaseLLM`.

    Raises:
        ConfigError: The file or a key cannot be used; the message names both.
        InvalidArgument: A value cannot be used; the message names the file, the key and what is allowed.
        MissingDependency: The backend needs an extra that is not installed.
    """
    settings, where = load_config(config, profile=profile)
    settings.update(overrides)
    try:
        backend = settings.pop("type")
    except KeyError:
        raise ConfigError(f"{where}: 'type' is missing: the name of the backend") from None
    cls = find_backend(backend, asynchronous=asynchronous)
    known = cls.constructor_names()
    if missing := [key for key in _required(cls) if key not in settings]:
        raise ConfigError(f"{where}: {missing[0]!r} is missing: {cls.__name__} needs it")
    for key, value in settings.items():
        if key not in known:
            known -= cls.unsupported_names()
            raise ConfigError(
                f"{where}: unknown key {key!r} for {cls.__name__}{suggestion(key, known)}; "
                f"known are {', '.join(sorted(known))}"
            )
        settings[key] = _expanded(value, f"{where}: {key}", _takes_strings(cls, key))
    try:
        return cls(**settings)
    except InvalidArgument as error:
        if error.argument not in settings or error.argument in overrides:  # the value is not the file's
            raise
        raise InvalidArgument(f"{where}: {error}", argument=error.argument) from error


def load_config(config: Source | None = None, *, profile: str | None = None) -> tuple[dict[str, Any], str]:
    """The settings that `create_llm` would use, and a description of their source."""
    if config is None:
        config = os.environ.get("LAGENT_LLM_CONFIG") or EMBEDDED
    profile = profile or os.environ.get("LAGENT_LLM_PROFILE") or None
    if isinstance(config, Mapping):
        return _select(config, profile, "configuration")
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError(f"config: expected a path, a dict or None, got {type(config).__name__}")
    path = Path(config).expanduser()
    return _select(_read(path), profile, str(path))


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    if path.suffix == ".toml":
        return _parse_toml(text, path)
    if path.suffix in (".yaml", ".yml"):
        return _parse_yaml(text, path)
    raise ConfigError(f"{path}: a configuration file ends in .yaml, .yml or .toml")


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse_toml(text: str, path: Path) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _select(settings: Any, profile: str | None, where: str) -> tuple[dict[str, Any], str]:
    """The settings of one profile, or of a file without profiles."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {type(settings).__name__}")
    if strange := [key for key in settings if not isinstance(key, str)]:
        raise ConfigError(f"{where}: a key is a name, got {strange[0]!r}")
    if "profiles" not in settings:
        if profile is not None and settings is not EMBEDDED:
            raise ConfigError(f"{where}: profile {profile!r} was asked for, but there is no 'profiles'")
        return dict(settings), where
    profiles = settings["profiles"]
    if not isinstance(profiles, Mapping) or not profiles:
        raise ConfigError(f"{where}: 'profiles' holds no named configurations")
    if stray := set(settings) - {"profiles", "default"}:
        raise ConfigError(f"{where}: beside 'profiles' only 'default' is allowed, found {sorted(stray)}")
    name = profile or settings.get("default") or (next(iter(profiles)) if len(profiles) == 1 else None)
    if name is None:
        raise ConfigError(f"{where}: say which profile: {', '.join(profiles)} (or set 'default')")
    if name not in profiles:
        raise ConfigError(
            f"{where}: no profile {name!r}{nearest(str(name), profiles)}; there are {', '.join(profiles)}"
        )
    if not isinstance(profiles[name], Mapping):
        raise ConfigError(f"{where}: profile {name!r} holds no keys and values")
    return dict(profiles[name]), f"{where}, profile {name!r}"


def _expanded(value: Any, where: str, strings: bool = True) -> Any:
    """`value` with ``${NAME}`` and ``${NAME:-default}`` replaced from the environment, at any depth.

    A value that is one reference only, for a parameter that takes no string, is parsed as YAML:
    ``session_len: ${SESSION_LEN}`` becomes a number.
    """
    if isinstance(value, Mapping):
        return {key: _expanded(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"], match["default"])
        if found is None:
            raise ConfigError(f"{where}: the environment variable {match['name']} is not set")
        return found

    text = _REFERENCE.sub(replacement, value)
    if not strings and text != value and _REFERENCE.fullmatch(value):
        import yaml

        return yaml.safe_load(text)
    return text


def _required(cls: type[LLMCore]) -> list[str]:
    """Names of the constructor's parameters without a default."""
    return [
        name
        for name, item in inspect.signature(cls).parameters.items()
        if item.default is item.empty and item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    ]


def _takes_strings(cls: type[LLMCore], key: str) -> bool:
    """True if the constructor's parameter `key` may be a string."""
    if key in PARAMETERS:
        return "str" in PARAMETERS[key].type
    for base in cls.__mro__:
        if "__init__" in vars(base) and key in (parameters := inspect.signature(base).parameters):
            return (
                "str" in str(parameters[key].annotation)
                or parameters[key].annotation is inspect.Parameter.empty
            )
    return True
