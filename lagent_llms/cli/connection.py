"""The options that name a backend: a configuration file, or a server and a model without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import typer

from ..config import Source, required_arguments
from ..core.constructor_aliases import CONSTRUCTOR_ALIASES
from ..errors import ConfigError, InvalidArgument
from ..registry import find_backend

__all__ = ["URL", "Backend", "Config", "Model", "Named", "Profile", "named_backend"]

Config = Annotated[str | None, typer.Option(help="A YAML or TOML file with the backend's configuration.")]
Profile = Annotated[str | None, typer.Option(help="A profile of the configuration file.")]
URL = Annotated[str | None, typer.Option(help="The server's address, instead of a configuration file.")]
Model = Annotated[
    str | None,
    typer.Option(help="The model: the server's name of it, or the path for a --backend in process."),
]
Backend = Annotated[
    str | None,
    typer.Option(help="The backend for --url and --model: OpenAIClient (the default), TritonClient …"),
]

#: Option of each argument of constructors.
_OPTIONS = {"base_url": "--url", "model": "--model"}
#: The backend of servers over HTTP.
_DEFAULT = "OpenAIClient"


class Named(NamedTuple):
    """What the options name, as for `create_llm`.

    Attributes:
        source: The configuration, or its file.
        profile: The profile.
        options: The options of the arguments in `source`, for errors.
    """

    source: Source | None
    profile: str | None
    options: Mapping[str, str]


def named_backend(
    config: str | None, profile: str | None, url: str | None, model: str | None, backend: str | None
) -> Named:
    """Find out which backend the options name.

    Raises:
        InvalidArgument: They contradict each other, or the backend has no such argument or needs another.
    """
    given = {"--url": url, "--model": model, "--backend": backend}
    if not (present := [option for option, value in given.items() if value is not None]):
        return Named(config, profile, {})
    for option, value in (("--config", config), ("--profile", profile)):
        if value is not None:
            raise _refusal(
                present[0], f"{present[0]} and {option} are both given; the file names the backend"
            )
    if backend is None and url is not None and "://" in url and not url.lower().startswith("http"):
        raise _refusal(
            "--url",
            f"--url {url}: {_DEFAULT}, the default of --backend, takes http and https URLs; name another "
            "one, such as --backend TritonClient",
        )
    name = _DEFAULT if backend is None else backend
    try:
        cls = find_backend(name)
    except ConfigError as error:
        raise _refusal("--backend", f"--backend {name}: {error}") from error
    arguments = {key: value for key, value in (("base_url", url), ("model", model)) if value is not None}
    settings = cls.canonical(arguments)
    options: dict[str, str] = {}
    for key in settings:
        alias = next(alias for alias, names in CONSTRUCTOR_ALIASES.items() if key in (alias, *names))
        options |= dict.fromkeys((key, alias, *CONSTRUCTOR_ALIASES[alias]), _OPTIONS[alias])
        if key not in cls.constructor_names():
            raise _refusal(options[key], f"{options[key]}: {name} has no such argument")
    for key in required_arguments(cls):
        if key not in settings:
            aliases = (alias for alias, names in CONSTRUCTOR_ALIASES.items() if key in names)
            option = _OPTIONS.get(next(aliases, ""), f"--set {key}=…")
            raise _refusal(option, f"{option} is missing: {name} needs it")
    return Named({"type": name, **settings}, None, options)


def _refusal(option: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, argument=option)
