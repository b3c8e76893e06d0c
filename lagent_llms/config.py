"""`create_llm`: make a backend from a file, a dict or the environment.

A configuration is a mapping with ``type`` (the backend) and the backend's own parameters. A file holds one
configuration, or several named ones::

    default: local
    profiles:
      local: {type: JAXPipeline, temperature: 0}
      prod:  {type: LMDeployClient, url: "${LLM_URL:-http://127.0.0.1:23333}", api_key: "file:/run/key"}
      both:  {type: FallbackLLM, llms: [prod, local]}
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .config_file import expand, read_config, read_files
from .core.llm import LLMCore
from .core.parameters import suggestion
from .errors import ConfigError, InvalidArgument, nearest
from .params import ALIASES, PARAMETERS
from .registry import find_backend

if TYPE_CHECKING:
    from .core.base import AsyncBaseLLM, BaseLLM

__all__ = ["EMBEDDED", "check_config", "create_llm", "load_config", "required_arguments"]

#: The configuration used when nothing is configured: the embedded model, greedy.
EMBEDDED: Mapping[str, Any] = {"type": "JAXPipeline", "temperature": 0}

#: The key whose value is a list of configurations, or of names of profiles of the same file.
_MEMBERS = "llms"
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
    cls, settings = _checked(settings, where, asynchronous, expanded=isinstance(config, _Expanded))
    return cls, settings, where


class _Expanded(dict[str, Any]):
    """Settings of a member whose references were replaced when the configuration around it was checked."""


def _checked(
    settings: dict[str, Any], where: str, asynchronous: bool, *, expanded: bool = False
) -> tuple[type[LLMCore], dict[str, Any]]:
    """See `check_config`."""
    if "type" not in settings:
        raise ConfigError(f"{where}: 'type' is missing: the name of the backend")
    backend = expand(settings.pop("type"), f"{where}: type")
    cls = find_backend(backend, asynchronous=asynchronous)
    known = cls.constructor_names()
    try:
        settings = cls.canonical(settings)
    except InvalidArgument as error:
        raise ConfigError(f"{where}: {error}") from error
    if missing := [key for key in required_arguments(cls) if key not in settings]:
        raise ConfigError(f"{where}: {missing[0]!r} is missing: {cls.__name__} needs it")
    for key, value in settings.items():
        if key not in known:
            known -= cls.unsupported_names()
            raise ConfigError(
                f"{where}: unknown key {key!r} for {cls.__name__}{suggestion(key, known)}; "
                f"known are {', '.join(sorted(known))}"
            )
        if key == _MEMBERS and isinstance(value, list):
            settings[key] = [
                _member(item, f"{where}: {key}[{index}]", asynchronous) for index, item in enumerate(value)
            ]
        elif not expanded:
            value = expand(value, f"{where}: {key}", _takes_strings(cls, key))
            settings[key] = (
                value if key in PARAMETERS or key in ALIASES else read_files(value, f"{where}: {key}")
            )
    return cls, settings


def _member(item: Any, where: str, asynchronous: bool) -> Any:
    """A member of a configuration, checked if it is a configuration."""
    if not isinstance(item, Mapping) or isinstance(item, _Expanded):
        return item
    _, settings = _checked(dict(item), where, asynchronous)
    return _Expanded({**settings, "type": item["type"]})


def load_config(config: Source | None = None, *, profile: str | None = None) -> tuple[dict[str, Any], str]:
    """The settings that `create_llm` would use, and a description of their source."""
    if config is None:
        config = os.environ.get("LAGENT_LLM_CONFIG", "").strip() or EMBEDDED
    if config is EMBEDDED or not isinstance(config, Mapping) or "profiles" in config:
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
    where = f"{where}, profile {name!r}"
    return _with_members(profiles[name], profiles, (name,), where), where


def _with_members(
    settings: Mapping[str, Any], profiles: Mapping[str, Any], around: tuple[str, ...], where: str
) -> dict[str, Any]:
    """`settings` with the profiles whose names are among its members.

    Args:
        settings: One configuration.
        profiles: All profiles of the file.
        around: The profiles that this one is a member of, and itself.
        where: The profile, for messages.
    """
    settings = dict(settings)
    if not isinstance(members := settings.get(_MEMBERS), list):
        return settings

    def member(index: int, item: Any) -> Any:
        name = str(item) if isinstance(item, (str, int)) else None
        found = item if name is None else profiles.get(name)
        if name in around:
            raise ConfigError(f"{where}: {_MEMBERS}[{index}]: profile {name!r} is a member of itself")
        if name is not None and not isinstance(found, Mapping):
            raise ConfigError(
                f"{where}: {_MEMBERS}[{index}]: no profile {name!r}{nearest(name, profiles)}; there are "
                f"{', '.join(profiles)}"
            )
        inner = around if name is None else (*around, name)
        return _with_members(found, profiles, inner, where) if isinstance(found, Mapping) else found

    settings[_MEMBERS] = [member(index, item) for index, item in enumerate(members)]
    return settings


def required_arguments(cls: type[LLMCore]) -> list[str]:
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
