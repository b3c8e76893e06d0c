"""`lagent-llms doctor`: check which backends are installed, and how to install the others."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..config import Source, create_llm, load_config
from ..errors import ConfigError, LLMError
from ..registry import BACKENDS, ENTRY_POINT_GROUP, Backend
from .connection import URL, Config, Model, Profile, named_backend
from .connection import Backend as BackendOption
from .output import emitting, visible

__all__ = ["doctor"]


def doctor(
    config: Config = None,
    profile: Profile = None,
    url: URL = None,
    model: Model = None,
    backend: BackendOption = None,
) -> None:
    """List the backends, their missing packages and the commands to install them."""
    with emitting():
        named = named_backend(config, profile, url, model, backend)
        _report(named.source, named.profile)


def _report(config: Source | None, profile: str | None) -> None:
    console = Console()
    console.print(
        f"lagent_llms {__version__}, Python {platform.python_version()} ({sys.executable}), "
        f"{platform.platform()}",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for column in ("backend", "state", "needs"):
        table.add_column(column, overflow="fold")
    for name, backend in BACKENDS.items():
        missing = _missing(backend)
        state = "[green]ready[/]" if not missing else f"[yellow]missing {', '.join(missing)}[/]"
        table.add_row(f"{name}\n[dim]{backend.summary}[/]", state, _versions(backend))
    for plugin in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        table.add_row(plugin.name, "plugin", plugin.value)
    console.print(table)
    for extra in dict.fromkeys(backend.extra for backend in BACKENDS.values() if _missing(backend)):
        console.print(f"install with: pip install 'lagent_llms[{extra}]'", markup=False, highlight=False)
    try:
        settings, where = load_config(config, profile=profile)
    except ConfigError as error:
        console.print("[red]configuration:[/] ", end="")
        console.print(visible(str(error), sys.stdout), markup=False, highlight=False)
        raise typer.Exit(1) from None
    console.print(f"create_llm() makes: {settings.get('type')} ({where})", markup=False, highlight=False)
    configured = BACKENDS.get(str(settings.get("type")))
    if configured is not None and configured.remote and not _missing(configured):
        _print_models(console, settings)


def _print_models(console: Console, settings: Mapping[str, Any]) -> None:
    """Print the models of the configured server; exit with status 1 if the request fails."""
    try:
        llm: Any = create_llm(dict(settings), asynchronous=False)
        try:
            models = llm.models()
        finally:
            llm.close()
    except LLMError as error:
        console.print("[red]its server:[/] ", end="")
        console.print(visible(str(error), sys.stdout), markup=False, highlight=False)
        raise typer.Exit(1) from None
    names = visible(", ".join(models), sys.stdout)
    console.print(f"its server's models: {names or 'none'}", markup=False, highlight=False)


def _missing(backend: Backend) -> list[str]:
    return [package for package in backend.packages if importlib.util.find_spec(package) is None]


def _versions(backend: Backend) -> str:
    """The packages the backend needs, with the installed versions."""
    missing = _missing(backend)
    needs = [
        package if package in missing else f"{package} {importlib.metadata.version(package)}"
        for package in backend.packages
    ]
    return ", ".join(needs) or "the core only"
