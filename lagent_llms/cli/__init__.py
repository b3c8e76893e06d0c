"""The command `lagent-llms`: chat, batch, serve, render, doctor, journal."""

from __future__ import annotations

import contextlib
import importlib
import sys

from ..errors import LLMError, MissingDependency
from .output import OutputError, discard, visible

__all__ = ["main"]

#: Each is a function in the module of its name, in the order of the help.
_COMMANDS = ("chat", "batch", "serve", "render", "doctor", "journal")


def main() -> None:
    """Run the command line; an error prints one line to stderr and exits with status 1."""
    try:
        _app()
    except (LLMError, OutputError) as error:
        _fail(str(error))
    except UnicodeEncodeError as error:  # of the texts of typer and rich
        discard()
        _fail(f"the encoding {error.encoding} of the output cannot write {error.object[error.start]!a}")
    except OSError as error:
        discard()
        _fail(f"cannot write or read: {error.strerror or error}")


def _fail(message: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            print(f"error: {visible(message, sys.stderr)}", file=sys.stderr, flush=True)
    sys.exit(1)


def _app() -> None:
    try:
        import rich  # noqa: F401
        import typer
    except ModuleNotFoundError as error:
        raise MissingDependency.of(str(error.name), "cli") from error

    app = typer.Typer(
        help="Chat with a model, run batches, serve it, render prompts, check the installation.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_commands)
    asked = [name for name in sys.argv[1:2] if name in _COMMANDS]
    for name in asked or _COMMANDS:  # a command starts without the modules of the others
        app.command()(getattr(importlib.import_module(f".{name}", __package__), name))
    app(standalone_mode=True)


def _commands() -> None:
    """A callback, with which typer expects the name of a command even where it has only one."""
