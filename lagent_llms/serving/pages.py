"""The pages of a `JAXServer`: /gradio_chat and /gradio_instruct."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency
from .page_answers import AT_ONCE, Answers, Pairs, Progress
from .page_prompts import chat_prompt, instruct_prompt, pairs_of

try:
    import gradio as gr
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .jax_server import JAXServer

__all__ = ["CHAT_PATH", "INSTRUCT_PATH", "Page", "chat_page", "instruct_page", "mount_pages"]

CHAT_PATH = "/gradio_chat"
INSTRUCT_PATH = "/gradio_instruct"

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


class Page(gr.Blocks):
    """A page in this project's looks, mounted on a server or launched alone.

    Attributes:
        answers: Those that run for its visitors.
    """

    def __init__(self, title: str) -> None:
        super().__init__(analytics_enabled=False, title=title, fill_width=True)
        self.answers = Answers()

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Serve the page alone; the arguments are those of `gradio.Blocks.launch`.

        In a script it returns on Ctrl-C, or at once with ``prevent_thread_lock=True``. ``share=True`` needs
        the internet.
        """
        return super().launch(*args, **{**_looks(), **kwargs})

    def end(self) -> None:
        """Wait for the running answers, then let go of the connections of open pages."""
        self.answers.drain()
        self.server_app.stop_event.set()


def mount_pages(app: FastAPI, server: JAXServer) -> tuple[Page, Page]:
    """Put both pages on `app`, which must not be served yet."""
    pages = chat_page(server, links=True), instruct_page(server, links=True)
    for page, path in zip(pages, (CHAT_PATH, INSTRUCT_PATH), strict=True):
        gr.mount_gradio_app(app, page, path, ssr_mode=False, mcp_server=False, enable_monitoring=False, **_looks())
    return pages


def chat_page(server: JAXServer, *, links: bool = False) -> Page:
    """The chat page of `server`.

    Args:
        server: Who answers.
        links: Whether the page leads to the other one, which is there when both are mounted.
    """
    with Page(f"Chat · {server.name}") as page, gr.Column(elem_id="page", elem_classes="chat"):
        _header("Chat", server.name, links)
        chatbot = gr.Chatbot(
            elem_id="answer",
            show_label=False,
            height=None,
            layout="bubble",
            buttons=["copy"],
            feedback_options=None,
            placeholder="## What would you like to know?\nEnter sends, Shift + Enter begins a new line.",
        )
        prompt = gr.Textbox(
            elem_id="prompt", show_label=False, placeholder="Write a message", max_lines=8, autofocus=True
        )
        controls = _Controls(server)

        async def answer(
            request: gr.Request, text: str, messages: list[dict[str, Any]], *settings: Any
        ) -> AsyncIterator[tuple[Any, ...]]:
            asked = {"role": "user", "content": text}
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.refused("Write a message first.")
                return
            yield "", [*messages, asked], *controls.running()
            start = controls.starter(lambda system: chat_prompt(server, text, pairs_of(messages), system), settings)
            async for step in page.answers.stream(_visitor(request), start):
                said = [{"role": "assistant", "content": step.text}] if step.text else []
                shown: list[dict[str, Any]] = [*messages, asked, *said]
                if step.state == "cleared":
                    shown = []
                if step.state == "failed" and not said:  # nothing was said: the question goes back
                    yield text, messages, *controls.shown(step)
                else:
                    yield gr.skip(), shown, *controls.shown(step)

        controls.wire(page, answer, prompt, chatbot, empty=[])
    return page


def instruct_page(server: JAXServer, *, links: bool = False) -> Page:
    """The instruct page of `server`; see `chat_page`."""
    with Page(f"Instruct · {server.name}") as page, gr.Column(elem_id="page", elem_classes="instruct"):
        _header("Instruct", server.name, links)
        prompt = gr.Textbox(
            elem_id="prompt",
            label="Instruction",
            placeholder="Tell the model what to do",
            lines=4,
            max_lines=12,
            autofocus=True,
        )
        response = gr.Textbox(
            elem_id="answer",
            label="Response",
            placeholder="The answer appears here.",
            lines=8,
            max_lines=24,
            interactive=False,
            buttons=["copy"],
        )
        controls = _Controls(server)

        async def answer(
            request: gr.Request, text: str, _: str, *settings: Any
        ) -> AsyncIterator[tuple[Any, ...]]:
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.refused("Write an instruction first.")
                return
            yield gr.skip(), "", *controls.running()
            start = controls.starter(lambda system: instruct_prompt(server, text, system), settings)
            async for step in page.answers.stream(_visitor(request), start):
                shown = "" if step.state == "cleared" else step.text
                yield gr.skip(), shown, *controls.shown(step)

        controls.wire(page, answer, prompt, response, empty="")
    return page


class _Controls:
    """What both pages have below their texts: a note, the buttons, the advanced options."""

    def __init__(self, server: JAXServer) -> None:
        self._server, config = server, server.config
        most = min(config.max_new_tokens, config.max_length)
        self.note = gr.HTML(elem_id="note", padding=False)
        with gr.Row(elem_id="buttons"):
            self.submit = gr.Button("Submit", variant="primary", elem_id="submit", min_width=80)
            self.stop = gr.Button("Stop", variant="secondary", elem_id="stop", interactive=False, min_width=80)
            self.clear = gr.Button("Clear", variant="secondary", elem_id="clear", min_width=80)
        with gr.Accordion("Advanced Options", open=False, elem_id="advanced"):
            system = gr.Textbox(
                config.system,
                label="System prompt",
                placeholder="Who the model is, and how it should answer",
                lines=2,
                max_lines=6,
                elem_id="system",
            )
            tokens = gr.Slider(1, most, most, step=1, label="Max new tokens", elem_id="max_new_tokens")
            greedy = gr.Checkbox(False, label="Greedy", info="Always take the most probable token", elem_id="greedy")
            temperature = gr.Slider(
                0, max(2.0, config.temperature), config.temperature, step=0.05, label="Temperature", elem_id="temperature"
            )
            greedy.change(
                lambda on: gr.update(interactive=not on), greedy, temperature, queue=False, api_visibility="private"
            )
        self._settings = [system, tokens, greedy, temperature]

    def starter(self, prompt: Callable[[str], str], settings: tuple[Any, ...]) -> Callable[[], Pairs]:
        """What begins the generation: `prompt` makes the text of the system prompt."""
        system, tokens, greedy, temperature = settings
        return lambda: self._server.process(prompt(system), greedy, tokens, temperature=temperature)

    def running(self) -> tuple[Any, ...]:
        """Note and buttons while an answer runs."""
        return "", gr.update(interactive=False), gr.update(interactive=True)

    def refused(self, why: str) -> tuple[Any, ...]:
        """Note and buttons when nothing was begun."""
        return _note(why, "hint"), gr.skip(), gr.skip()

    def shown(self, step: Progress) -> tuple[Any, ...]:
        """Note and buttons at a step of an answer."""
        if step.state == "running":
            return gr.skip(), gr.skip(), gr.skip()
        tokens = f"{step.n_tokens:,} token{'' if step.n_tokens == 1 else 's'}"
        note = {
            "done": _note(tokens),
            "stopped": _note(f"Stopped after {tokens}"),
            "cleared": "",
            "failed": _note(step.error, "error"),
        }[step.state]
        return note, gr.update(interactive=True), gr.update(interactive=False)

    def wire(self, page: Page, answer: Any, prompt: gr.Textbox, output: Any, *, empty: Any) -> None:
        """Connect buttons and keys."""
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [prompt, output, self.note, self.submit, self.stop]
        gr.on(
            [prompt.submit, self.submit.click],
            answer,
            [prompt, output, *self._settings],
            outputs,
            concurrency_limit=AT_ONCE,
            **hidden,
        )

        def stop(request: gr.Request) -> None:
            page.answers.stop(_visitor(request))

        def clear(request: gr.Request) -> tuple[Any, ...]:
            page.answers.stop(_visitor(request), clear=True)
            return "", empty, "", gr.update(interactive=True), gr.update(interactive=False)

        self.stop.click(stop, queue=False, **hidden)
        self.clear.click(clear, None, outputs, queue=False, **hidden)
        page.unload(stop)  # the page was closed


def _header(title: str, model: str, links: bool) -> None:
    pages = {"Chat": CHAT_PATH, "Instruct": INSTRUCT_PATH}
    navigation = "".join(
        f'<a href="..{path}/"{" aria-current=page" if name == title else ""}>{name}</a>' for name, path in pages.items()
    )
    links_part = f"<nav>{navigation}</nav>" if links else ""
    gr.HTML(
        f"<header><h1>{title}</h1><p>{escape(model)}</p>{links_part}</header>", elem_id="header", padding=False
    )


def _note(text: str, kind: str = "") -> str:
    role = "alert" if kind else "status"
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _looks() -> dict[str, Any]:
    """Theme and style sheet: fonts and everything else from this machine."""
    theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=_SANS, font_mono=_MONO)
    return {"theme": theme, "css_paths": Path(__file__).with_name("pages.css"), "footer_links": []}
