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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .config_file import parse_value, read_config
from .core.llm import LLMCore
from .core.parameters import suggestion
from .errors import ConfigError, InvalidArgument, nearest
from .params import PARAMETERS
from .registry import find_backend

if TYPE_CHECKING:
    from .core.base import AsyncBaseLLM, BaseLLM

__all__ = ["EMBEDDED", "check_config", "create_llm", "load_config"]

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
    cls, settings, where = check_config(config, profile=profile, asynchronous=asynchronous, **overrides)
    try:
        return cls(**settings)
    except InvalidArgument as error:
        if error.argument not in settings or error.argument in overrides:  # the value is not the file's
            raise
        raise InvalidArgument(f"{where}: {error}", argument=error.argument) from error


def check_config(
    config: Source | None = None, *, profile: str | None = None, asynchronous: bool = False, **overrides: Any
) -> tuple[type[LLMCore], dict[str, Any], str]:
    """The class that `create_llm` would make an object of, its arguments, and a description of their source.

    References to the environment are replaced. Values are checked when the object is made.

    Raises:
        ConfigError: The file or a key cannot be used; the message names both.
    """
    settings, where = load_config(config, profile=profile)
    settings.update(overrides)
    if "type" not in settings:
        raise ConfigError(f"{where}: 'type' is missing: the name of the backend")
    backend = _expanded(settings.pop("type"), f"{where}: type")
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
    return cls, settings, where


def load_config(config: Source | None = None, *, profile: str | None = None) -> tuple[dict[str, Any], str]:
    """The settings that `create_llm` would use, and a description of their source."""
    if config is None:
        config = os.environ.get("LAGENT_LLM_CONFIG", "").strip() or EMBEDDED
    profile = profile or os.environ.get("LAGENT_LLM_PROFILE", "").strip() or None
    if isinstance(config, Mapping):
        return _select(config, profile, "configuration")
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError(f"config: expected a path, a dict or None, got {type(config).__name__}")
    if not os.fspath(config).strip():
        raise ConfigError("config: the path is empty")
    try:
        path = Path(config).expanduser()
    except RuntimeError as error:  # ~USER for a user that does not exist
        raise ConfigError(f"{config}: cannot be read: {error}") from error
    return _select(read_config(path), profile, str(path))


def _select(settings: Any, profile: str | None, where: str) -> tuple[dict[str, Any], str]:
    """The settings of one profile, or of a file without profiles."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {type(settings).__name__}")
    if strange := [key for key in settings if not isinstance(key, str)]:
        raise ConfigError(f"{where}: a key is a name, got {strange[0]!r}")
    if "profiles" not in settings:
        if profile is not None and settings is EMBEDDED:
            raise ConfigError(
                f"profile {profile!r} was asked for, but there is no configuration file (config=, --config, "
                "LAGENT_LLM_CONFIG)"
            )
        if profile is not None:
            raise ConfigError(f"{where}: profile {profile!r} was asked for, but there is no 'profiles'")
        return dict(settings), where
    if not isinstance(settings["profiles"], Mapping) or not settings["profiles"]:
        raise ConfigError(f"{where}: 'profiles' holds no named configurations")
    profiles = {str(name): value for name, value in settings["profiles"].items()}
    default = settings.get("default")
    if isinstance(default, bool) or not isinstance(default, (str, int, type(None))):
        raise ConfigError(f"{where}: default={default!r}: allowed is the name of a profile")
    if stray := set(settings) - {"profiles", "default"}:
        raise ConfigError(f"{where}: beside 'profiles' only 'default' is allowed, found {sorted(stray)}")
    first = next(iter(profiles)) if len(profiles) == 1 else None
    name = next((str(name) for name in (profile, default, first) if name not in (None, "")), None)
    if name is None:
        raise ConfigError(f"{where}: say which profile: {', '.join(profiles)} (or set 'default')")
    if name not in profiles:
        raise ConfigError(
            f"{where}: no profile {name!r}{nearest(name, profiles)}; there are {', '.join(profiles)}"
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
