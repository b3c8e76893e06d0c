"""`lagent-llms chat`: answer one question, or hold a conversation."""

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
from .connection import URL, Backend, Config, Model, Profile, named_backend
from .output import emit, visible
from .terminal import kept, named_by_option, parse_settings, print_stream, progress, read_input

__all__ = ["chat"]

_HELP = "/reset clears the conversation, /system TEXT sets the system prompt, /exit (or Ctrl-D) exits."


def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Without it, stdin; at a terminal, a conversation.")
    ] = None,
    config: Config = None,
    profile: Profile = None,
    url: URL = None,
    model: Model = None,
    backend: Backend = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens of an answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature; 0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, in (0, 1].")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep this many most probable tokens.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop tokens less probable than this times the best.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Penalty on repeated tokens; 1.0 is none.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A stop word, which ends the answer; repeatable.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Longest wait for the next token, in seconds.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="A file where every call is kept.")] = None,
    no_content: Annotated[
        bool, typer.Option("--no-content", help="Keep only the figures of calls in the journal.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the backend: key=value; repeatable.")
    ] = None,
) -> None:
    """Stream the configured model's answer (by default the embedded model's), or hold a conversation."""
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
    sampling = {name: value for name, value in given.items() if value is not None}
    options = {name: f"--{name.replace('_', '-')}" for name in sampling} | {"stop_words": "--stop"}
    named = named_backend(config, profile, url, model, backend)
    question = read_input(prompt)
    emit("")  # before the model is loaded: stdout may be closed
    if question is None and sys.stdin is None:
        raise InvalidArgument("the prompt is missing, and stdin is closed", argument="prompt")
    if question == "":
        raise InvalidArgument("the prompt is empty", argument="prompt")
    with progress("loading the model") as show_step:
        extra = parse_settings(settings or ())
        overrides = {**sampling, **kept(None, journal, content=not no_content), **extra}
        kind = load_config(named.source, profile=named.profile)[0].get("type")
        if kind is not None and "progress" in find_backend(kind).constructor_names():
            overrides["progress"] = show_step
        with named_by_option({**named.options, **options} | {name: f"--set {name}" for name in extra}):
            llm = create_llm(named.source, profile=named.profile, **overrides)
    with llm:
        if question is None:
            _run_conversation(llm, system)
        else:
            _answer(llm, [*_system_messages(system), {"role": "user", "content": question}])


def _system_messages(text: str | None) -> list[Message]:
    return [{"role": "system", "content": text}] if text else []


def _answer(llm: BaseLLM, messages: list[Message]) -> None:
    try:
        print_stream(llm.stream_text(messages))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise typer.Exit(130) from None


def _run_conversation(llm: BaseLLM, system: str | None) -> None:
    """Read and answer questions until /exit or end of file. Ctrl-C stops an answer, not the program."""
    with contextlib.suppress(ModuleNotFoundError):
        import readline  # noqa: F401  (line editing and history for input())
    emit(f"Chatting with {llm!r}. {_HELP}\n")
    messages = _system_messages(system)
    while True:
        try:
            line = input("\n> ").strip()
        except EOFError:
            emit("\n")
            return
        except KeyboardInterrupt:
            emit("\n(Ctrl-D exits)\n")
            continue
        except UnicodeDecodeError as error:
            emit(f"(not text: {error})\n")
            continue
        command, _, argument = line.partition(" ")
        if not line:
            continue
        if command == "/exit":
            return
        if command == "/reset":
            messages = [message for message in messages if message["role"] == "system"]
            emit("(conversation cleared)\n")
        elif command == "/system":
            messages = _system_messages(argument)
            emit("(new system prompt; conversation cleared)\n")
        elif command.startswith("/"):
            emit(f"{_HELP}\n")
        else:
            messages = _answer_turn(llm, [*messages, {"role": "user", "content": line}])


def _answer_turn(llm: BaseLLM, messages: list[Message]) -> list[Message]:
    """Answer the last message; return the messages with the answer, or without the last one on an error."""
    try:
        stream = llm.stream_chat(messages)
        try:
            print_stream(chunk.delta for chunk in stream)
        except KeyboardInterrupt:
            stream.close()
            emit("\n(stopped)\n")
    except LLMError as error:
        print(f"\nerror: {visible(str(error), sys.stderr)}", file=sys.stderr)
        return messages[:-1]
    return [*messages, {"role": "assistant", "content": stream.text}]
