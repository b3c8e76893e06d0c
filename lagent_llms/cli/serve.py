"""`lagent-llms serve`: serve any backend over an OpenAI-compatible API."""

from __future__ import annotations

import signal
import sys
import threading
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ..config import create_llm, load_config
from .connection import URL, Backend, Config, Profile, named_backend
from .output import emit
from .terminal import kept, named_by_option, parse_settings, progress

__all__ = ["serve"]


class Injection(str, Enum):
    """The values of --injection."""

    escape = "escape"
    refuse = "refuse"
    allow = "allow"


def serve(
    config: Config = None,
    profile: Profile = None,
    url: URL = None,
    backend: Backend = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every interface.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 2059,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model name that requests must give; with --url or --backend, the backend's model, too."
        ),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="LAGENT_LLM_SERVE_KEY", help="The API key that requests must send.")
    ] = None,
    max_requests: Annotated[int, typer.Option(min=1, help="Most concurrent requests; more get 429.")] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Largest request body, in bytes.")] = 4 << 20,
    origin: Annotated[
        list[str] | None, typer.Option(help="A CORS origin to allow beside localhost; repeatable.")
    ] = None,
    pages: Annotated[bool, typer.Option(help="Serve the chat and instruct pages.")] = True,
    injection: Annotated[
        Injection | None,
        typer.Option(
            help="Special tokens in texts of clients: plain text (escape), refused or allowed. Default: the "
            "configuration's, else escape."
        ),
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="A folder: answers of deterministic calls are kept and used again.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="A file where every call is kept.")] = None,
    no_content: Annotated[
        bool, typer.Option("--no-content", help="Keep only the figures of calls in the journal.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the backend: key=value; repeatable.")
    ] = None,
) -> None:
    """Serve the configured model (by default the embedded one) over HTTP until Ctrl-C."""
    from ..serving.app import openai_app  # here: the other commands work without the extra `server`
    from ..serving.host import Host
    from ..serving.limits import Limits
    from ..serving.pages.mount import PageMount
    from ..serving.pages.source import LLMSource

    remote = model if url is not None or backend is not None else None
    chosen = named_backend(config, profile, url, remote, backend)
    loaded, _ = load_config(chosen.source, profile=chosen.profile)
    backend_type = loaded.get("type", "")
    overrides = {**kept(cache, journal, content=not no_content), **parse_settings(settings or ())}
    named = {**chosen.options} | {name: f"--set {name}" for name in overrides}
    if injection is not None:
        overrides["injection"] = injection.value
        named["injection"] = "--injection"
    elif "injection" not in loaded:
        overrides.setdefault("injection", "escape")
    with progress("starting the model"), named_by_option(named):
        llm = create_llm(chosen.source, profile=chosen.profile, asynchronous=True, **overrides)
    name = model or _model_name(llm)
    limits = Limits(
        api_key=api_key or None, max_requests=max_requests, max_body=max_body, origins=origin or ()
    )
    protection = llm.options.injection
    app = openai_app(llm, name, limits, injection=protection)
    mount = PageMount(app, LLMSource(llm, name, injection=protection))
    mount.prepare(enabled=pages)
    with named_by_option({"server_port": "--port"}):
        server = Host(app, host, port)
    server.start()
    kind = str(getattr(backend_type, "__name__", backend_type))
    try:
        if sys.stdout is not None:  # a daemon may have closed it
            emit(_banner(server.url, name, kind, with_key=bool(api_key), pages=pages))
        _wait_for_signal()
    finally:
        mount.shutdown()
        server.stop()


def _wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM; a second signal ends the process at once."""
    received = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    while not received.wait(0.5):
        pass


def _model_name(llm: object) -> str:
    """The name of the model directory, the remote model's name, or 'default'."""
    path = getattr(llm, "path", None)
    if path is not None:
        return Path(path).name
    return str(getattr(llm, "model_name", None) or "default")


def _banner(url: str, model: str, backend: str, *, with_key: bool, pages: bool) -> str:
    key = "YOUR_KEY" if with_key else "none"
    header = f" -H 'Authorization: Bearer {key}'" if with_key else ""
    page = f"\n  {url}/gradio_chat   to chat in the browser\n" if pages else ""
    return f"""\
listening on {url}   model {model!r} on {backend}
{page}
  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}])

Ctrl-C stops the server after the running requests.
"""
