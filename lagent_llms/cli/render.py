"""`lagent-llms render`: print the exact prompt for a list of messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import Source, load_config
from ..errors import ConfigError, InvalidArgument
from ..messages import check_messages
from ..templates import check_template, load_template
from .connection import URL, Backend, Config, Model, Profile, named_backend
from .output import emit, visible
from .terminal import read_input

__all__ = ["render"]


def render(
    prompt: Annotated[str | None, typer.Argument(help="The user's message. Without it, stdin.")] = None,
    template: Annotated[
        str | None, typer.Option(help="A template family's name or file, or a model directory.")
    ] = None,
    config: Config = None,
    profile: Profile = None,
    url: URL = None,
    model: Model = None,
    backend: Backend = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    messages: Annotated[Path | None, typer.Option(help="A JSON file with a list of messages.")] = None,
    generation_prompt: Annotated[
        bool, typer.Option(help="End with the opening of the assistant's turn.")
    ] = True,
    check: Annotated[
        Path | None,
        typer.Option(help="Compare a template family with this model directory's template."),
    ] = None,
) -> None:
    """Print the prompt exactly as the model receives it.

    With --check MODEL_DIR FAMILY, compare the family's prompts with those of the model's template, on
    generated dialogs.
    """
    if check is not None:
        _check(check, prompt or template)
        return
    dialog: list[Any] = [] if messages is None else _read_messages(messages)
    text = read_input(prompt) if messages is None or prompt is not None else None
    if system is not None:
        dialog.insert(0, {"role": "system", "content": system})
    if text:
        dialog.append({"role": "user", "content": text})
    if not dialog:
        raise InvalidArgument(
            "nothing to render: give a prompt, --messages or --system, or pipe text to stdin",
            argument="prompt",
        )
    named = named_backend(config, profile, url, model, backend)
    loaded = load_template(template or _configured_template(named.source, named.profile))
    assert loaded is not None
    text = loaded.render(check_messages(dialog), add_generation_prompt=generation_prompt)
    emit(visible(text, sys.stdout))
    if sys.stdout.isatty():
        emit("\n")


def _check(model: Path, family: str | None) -> None:
    if family is None:
        raise InvalidArgument("--check MODEL_DIR needs the name of a family as well", argument="prompt")
    report = check_template(model, family)
    emit(f"{visible(str(report), sys.stdout)}\n")
    if not report.ok:
        raise typer.Exit(1)


def _read_messages(path: Path) -> list[Any]:
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--messages {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--messages {path}: not JSON: {error}") from error
    return list(check_messages(messages, str(path)))


def _configured_template(config: Source | None, profile: str | None) -> Any:
    settings, _ = load_config(config, profile=profile)
    backend = settings.get("type")
    if found := settings.get("meta_template") or settings.get("path"):
        return found
    # The default backend is JAXPipeline with the embedded model, whose template is internlm2-lagent.
    if (name := getattr(backend, "__name__", backend)) not in (None, "JAXPipeline"):
        raise ConfigError(
            f"{name} has no meta_template, so that its server makes the prompt; --template names one"
        )
    return "internlm2-lagent"
