"""The command `lagent-llms`: chat, serve, render, doctor."""

from __future__ import annotations

import os
import sys

from ..errors import LLMError, MissingDependency

__all__ = ["main"]


def main() -> None:
    """Run the command line; an `LLMError` prints one line to stderr and exits with status 1."""
    try:
        _app()
    except LLMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of the pipe exited, as in `| head`: exit as SIGPIPE would
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _app() -> None:
    try:
        import rich  # noqa: F401
        import typer
    except ModuleNotFoundError as error:
        raise MissingDependency.of(str(error.name), "cli") from error

    from .chat import chat
    from .doctor import doctor
    from .render import render
    from .serve import serve

    app = typer.Typer(
        help="Chat with a model, serve it, render prompts, check the installation.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command()(chat)
    app.command()(serve)
    app.command()(render)
    app.command()(doctor)
    app(standalone_mode=True)
