"""`lagent-llms chat`: one answer, or a conversation with history."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from ..config import create_llm, load_config
from ..core.base import BaseLLM
from ..errors import InvalidArgument, LLMError
from ..registry import find_backend
from ..schema import Message
from .terminal import parse_settings, print_stream, progress, read_input

__all__ = ["chat"]

_HELP = "/reset forgets the conversation, /system TEXT sets the system prompt, /exit (or Ctrl-D) leaves."


def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Without it: a piped stdin, or a conversation.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="A YAML or TOML file that says which backend.")] = None,
    profile: Annotated[str | None, typer.Option(help="Which of the file's profiles.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Randomness; 0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, above 0 to 1.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep this many most probable tokens.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop tokens below this share of the best one's.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="1.0 is no penalty.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer here; may be repeated.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Longest wait for the next piece, seconds.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the backend: key=value.")
    ] = None,
) -> None:
    """Stream an answer of the configured model (the embedded one by default), or hold a conversation."""
    given: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop_words": stop or None,
        "timeout": timeout,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    question = read_input(prompt)
    if question == "":
        raise InvalidArgument("the prompt is empty", argument="prompt")
    with progress("loading the model") as say:
        overrides = {**asked, **parse_settings(settings or ())}
        kind = load_config(config, profile=profile)[0].get("type")
        if kind is not None and "progress" in find_backend(kind).constructor_names():
            overrides["progress"] = say
        llm = create_llm(config, profile=profile, **overrides)
    with llm:
        if question is None:
            _converse(llm, system)
        else:
            _answer_once(llm, [*_system(system), {"role": "user", "content": question}])


def _system(text: str | None) -> list[Message]:
    return [{"role": "system", "content": text}] if text else []


def _answer_once(llm: BaseLLM, messages: list[Message]) -> None:
    try:
        print_stream(llm.stream_text(messages))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise typer.Exit(130) from None


def _converse(llm: BaseLLM, system: str | None) -> None:
    """Questions and answers until the user leaves. Ctrl-C stops an answer, not the program."""
    with contextlib.suppress(ModuleNotFoundError):
        import readline  # noqa: F401  (line editing and history for input())
    print(f"Chatting with {llm!r}. {_HELP}")
    messages = _system(system)
    while True:
        try:
            line = input("\n> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D leaves)")
            continue
        command, _, argument = line.partition(" ")
        if not line:
            continue
        if command == "/exit":
            return
        if command == "/reset":
            messages = [message for message in messages if message["role"] == "system"]
            print("(forgotten)")
        elif command == "/system":
            messages = _system(argument)
            print("(new system prompt, the conversation begins anew)")
        elif command.startswith("/"):
            print(_HELP)
        else:
            messages = _turn(llm, [*messages, {"role": "user", "content": line}])


def _turn(llm: BaseLLM, messages: list[Message]) -> list[Message]:
    """Answer the last message; returns the dialog with the answer, or without the question if it failed."""
    stream = llm.stream_chat(messages)
    try:
        print_stream(chunk.delta for chunk in stream)
    except KeyboardInterrupt:
        stream.close()
        print("\n(stopped)")
    except LLMError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return messages[:-1]
    return [*messages, {"role": "assistant", "content": stream.text}]
