"""`lagent-llms render`: the prompt a dialog becomes, character for character."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import load_config
from ..errors import ConfigError, InvalidArgument
from ..schema import check_messages
from ..templates import check_template, load_template
from .terminal import read_input

__all__ = ["render"]


def render(
    prompt: Annotated[
        str | None, typer.Argument(help="The user's message. Without it: a piped stdin.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="A family name, a family file, or a model directory.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Take the meta_template of this configuration.")] = None,
    profile: Annotated[str | None, typer.Option(help="Which of the file's profiles.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    messages: Annotated[Path | None, typer.Option(help="A JSON file with a list of messages.")] = None,
    generation_prompt: Annotated[bool, typer.Option(help="End with the assistant's header.")] = True,
    check: Annotated[
        Path | None,
        typer.Option(help="Compare the named family with this model's own template."),
    ] = None,
) -> None:
    """Show the assembled prompt, exactly as a model would get it.

    With --check MODEL_DIR FAMILY: tell on generated dialogs whether the family still is the model's template.
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
            "nothing to render: give a prompt, --messages, or a piped stdin", argument="prompt"
        )
    chosen = load_template(template or _configured(config, profile))
    assert chosen is not None
    sys.stdout.write(chosen.render(check_messages(dialog), add_generation_prompt=generation_prompt))
    if sys.stdout.isatty():
        print()


def _check(model: Path, family: str | None) -> None:
    if family is None:
        raise InvalidArgument("--check MODEL_DIR needs the name of a family", argument="prompt")
    report = check_template(model, family)
    print(report)
    if not report.ok:
        raise typer.Exit(1)


def _read_messages(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from error
    return list(check_messages(found, str(path)))


def _configured(config: str | None, profile: str | None) -> Any:
    settings, _ = load_config(config, profile=profile)
    # JAXPipeline takes the model's own template, and the embedded model's is lagent's internlm2.
    return settings.get("meta_template") or settings.get("path") or "internlm2-lagent"
