"""`lagent-llms serve`: serve any backend over an OpenAI-compatible API."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import create_llm, load_config
from ..errors import ConfigError
from .connection import URL, Backend, Config, Profile, named_backend
from .output import emit
from .terminal import kept, named_by_option, parse_settings, progress

if TYPE_CHECKING:
    from ..serving.limits import Limits

__all__ = ["serve"]

_log = logging.getLogger("lagent_llms.serving")


class LogFormat(str, Enum):
    """The values of --log-format."""

    text = "text"
    json = "json"


class Injection(str, Enum):
    """The values of --injection."""

    escape = "escape"
    refuse = "refuse"
    allow = "allow"


def serve(
    context: typer.Context = None,  # type: ignore[assignment]  # typer passes it
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
    api_key_file: Annotated[
        str | None,
        typer.Option(help="A file with the API keys that requests may send, each after a name."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="LAGENT_LLM_SERVE_KEY",
            help="An API key that requests may send; better in the environment or a file.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen on a public address without an API key.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name of this server, beside localhost and --host; repeatable; '*' allows all."),
    ] = None,
    max_requests: Annotated[int, typer.Option(min=1, help="Most concurrent requests; more get 429.")] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Largest request body, in bytes.")] = 4 << 20,
    request_timeout: Annotated[
        float, typer.Option(min=0, help="Longest time to answer a request, in seconds; 0 is no limit.")
    ] = 600,
    max_connections: Annotated[int, typer.Option(min=1, help="Most open connections; more get 503.")] = 512,
    header_timeout: Annotated[
        float, typer.Option(min=0.1, help="Longest time for a request's headers to arrive, in seconds.")
    ] = 10,
    write_timeout: Annotated[
        float, typer.Option(min=0.1, help="Longest time that a client may read nothing, in seconds.")
    ] = 30,
    log_format: Annotated[LogFormat, typer.Option(help="The form of the log on stderr.")] = LogFormat.text,
    origin: Annotated[
        list[str] | None, typer.Option(help="A CORS origin to allow beside localhost; repeatable.")
    ] = None,
    warm_up: Annotated[
        bool, typer.Option(help="Compile the graphs of usual requests at start (JAX).")
    ] = True,
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
    from ..serving.connections import ConnectionLimits
    from ..serving.host import Host
    from ..serving.keys import read_keys
    from ..serving.limits import Limits
    from ..serving.logs import configure_logs
    from ..serving.pages.mount import PageMount
    from ..serving.pages.source import LLMSource

    configure_logs(log_format.value)
    limits = Limits(
        api_key=api_key or None,
        api_keys={} if api_key_file is None else read_keys(api_key_file),
        max_requests=max_requests,
        max_body=max_body,
        origins=origin or (),
        allowed_hosts=[host, *(allowed_host or ())],
        request_seconds=request_timeout or None,
    )
    _check_exposure(host, limits, insecure=insecure, key_source=context.get_parameter_source("api_key"))
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
    start_warm_up = getattr(getattr(llm, "engine", None), "warm_up", None)
    if warm_up and start_warm_up is not None:
        start_warm_up(greedy=llm.params.temperature == 0)
    name = model or _model_name(llm)
    protection = llm.options.injection
    app = openai_app(llm, name, limits, injection=protection)
    mount = PageMount(app, LLMSource(llm, name, injection=protection, seconds=limits.request_seconds))
    mount.prepare(enabled=pages)
    with named_by_option({"server_port": "--port"}):
        connections = ConnectionLimits(
            max_connections=max_connections, header_seconds=header_timeout, write_seconds=write_timeout
        )
        server = Host(app, host, port, connections=connections, logs_configured=True)
    server.start()
    gc.freeze()  # a collection that a large request sets off does not look at what was loaded at start
    kind = str(getattr(backend_type, "__name__", backend_type))
    try:
        if sys.stdout is not None:  # a daemon may have closed it
            emit(_banner(server.url, name, kind, with_key=limits.has_key, pages=pages))
        _wait_for_signal()
    finally:
        mount.shutdown()
        server.stop()


def _check_exposure(host: str, limits: Limits, *, insecure: bool, key_source: object) -> None:
    """Refuse a public address without a key, unless `insecure`; warn of both, and of a key in the arguments.

    Raises:
        ConfigError: The address is public, there is no key, and `insecure` is False.
    """
    from ..serving.cross_site import is_loopback

    if getattr(key_source, "name", "") == "COMMANDLINE":
        _log.warning(
            "--api-key: every user of this machine can read the arguments of a process; use --api-key-file "
            "or LAGENT_LLM_SERVE_KEY"
        )
    if limits.has_key or is_loopback(host):
        return
    if not insecure:
        raise ConfigError(
            f"--host={host} is reachable from other machines and there is no API key: give one with "
            "--api-key-file or LAGENT_LLM_SERVE_KEY, or allow everyone with --insecure"
        )
    _log.warning("--insecure: any client that reaches %s can use this server", host)


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
