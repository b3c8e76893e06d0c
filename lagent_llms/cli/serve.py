"""`lagent-llms serve`: an OpenAI-compatible server before any backend."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ..config import create_llm, load_config
from ..errors import MissingDependency
from .terminal import parse_settings, progress

__all__ = ["serve"]


def serve(
    config: Annotated[str | None, typer.Option(help="A YAML or TOML file that says which backend.")] = None,
    profile: Annotated[str | None, typer.Option(help="Which of the file's profiles.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 takes a free one.")] = 2059,
    model: Annotated[str | None, typer.Option(help="The name the model goes by.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="LAGENT_LLM_SERVE_KEY", help="Asked of every request.")
    ] = None,
    max_requests: Annotated[int, typer.Option(min=1, help="More at once get 429.")] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = 4 << 20,
    origin: Annotated[
        list[str] | None, typer.Option(help="Whose pages may call, beside those of this machine.")
    ] = None,
    pages: Annotated[bool, typer.Option(help="Whether there is a page to chat on, too.")] = True,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the backend: key=value.")
    ] = None,
) -> None:
    """Serve the configured model (the embedded one by default) over HTTP, until Ctrl-C."""
    try:
        from ..serving.app import openai_app
        from ..serving.host import Host
        from ..serving.limits import Limits
        from ..serving.pages.mount import PageMount
        from ..serving.pages.source import LLMSource
    except ModuleNotFoundError as error:
        raise MissingDependency.of(str(error.name), "server") from error
    given, _ = load_config(config, profile=profile)
    backend = given.get("type", "")
    with progress("starting the model"):
        llm = create_llm(config, profile=profile, asynchronous=True, **parse_settings(settings or ()))
    name = model or _model_name(llm)
    limits = Limits(
        api_key=api_key or None, max_requests=max_requests, max_body=max_body, origins=origin or ()
    )
    app = openai_app(llm, name, limits)
    mount = PageMount(app, LLMSource(llm, name))
    mount.prepare(wanted=pages)
    server = Host(app, host, port)
    server.start()
    print(
        _banner(
            server.url, name, str(getattr(backend, "__name__", backend)), with_key=bool(api_key), pages=pages
        ),
        flush=True,
    )
    _wait_for_signal()
    mount.end()
    server.stop()


def _wait_for_signal() -> None:
    """Return at Ctrl-C or SIGTERM; a second one ends the process as usual."""
    told = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while not told.wait(0.5):
        pass


def _model_name(llm: object) -> str:
    """The directory's name, a remote model's own, or 'default'."""
    path = getattr(llm, "path", None)
    if path is not None:
        return Path(path).name
    return str(getattr(llm, "model_name", None) or "default")


def _banner(url: str, model: str, backend: str, *, with_key: bool, pages: bool) -> str:
    key = "YOUR_KEY" if with_key else "none"
    header = f" -H 'Authorization: Bearer {key}'" if with_key else ""
    page = f"\n  {url}/gradio_chat   to chat in a browser\n" if pages else ""
    return f"""\
listening on {url}   model {model!r} on {backend}
{page}
  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}])

Ctrl-C ends it, once what runs is answered."""
