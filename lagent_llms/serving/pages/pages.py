"""The pages of a server: /gradio_chat and /gradio_instruct."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import Response

from ...errors import MissingDependency
from ..limits import PAGE_PATHS
from .answers import Answers, pairs_of
from .source import PageSource, Pairs

try:
    import gradio as gr

    from .controls import Controls, visitor
    from .theme import ICON, looks
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["CHAT_PATH", "INSTRUCT_PATH", "Page", "chat_page", "instruct_page", "mount_pages"]

CHAT_PATH, INSTRUCT_PATH, _ICON_PATH = PAGE_PATHS


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
        return super().launch(*args, **{**looks(), **kwargs})


def mount_pages(app: FastAPI, source: PageSource) -> None:
    """Put both pages on `app`, which must not be served yet."""
    app.get(_ICON_PATH, include_in_schema=False)(_icon)
    for path, build in ((CHAT_PATH, chat_page), (INSTRUCT_PATH, instruct_page)):
        page = build(source, links=True)
        gr.mount_gradio_app(
            app, page, path, ssr_mode=False, mcp_server=False, enable_monitoring=False, **looks()
        )


def chat_page(source: PageSource, *, links: bool = False) -> Page:
    """The chat page of `source`.

    Args:
        source: Who answers.
        links: Whether the page leads to the other one, which is there when both are mounted.
    """
    page = Page(f"Chat · {source.name}")
    with page, gr.Column(elem_id="page", elem_classes="chat"):
        _header("Chat", source.name, links)
        chatbot = gr.Chatbot(
            elem_id="answer",
            show_label=False,
            height=None,
            layout="bubble",
            buttons=["copy"],
            feedback_options=None,
            placeholder="## What would you like to know?\nEnter sends, Shift + Enter begins a new line.",
        )
        controls = Controls(source.page_defaults)
        controls.put_note()
        prompt = gr.Textbox(
            elem_id="prompt",
            label="Message",
            show_label=False,
            placeholder="Write a message",
            max_lines=8,
            autofocus=True,
        )
        controls.put_buttons()
        controls.put_options()

        async def answer(
            request: gr.Request,
            text: str,
            messages: list[dict[str, Any]],
            system: str,
            greedy: bool,
            most: int,
            temperature: float,
        ) -> AsyncIterator[tuple[Any, ...]]:
            asked = {"role": "user", "content": text}
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.refused("Write a message first.")
                return
            yield "", [*messages, asked], *controls.running()

            def start() -> Pairs:
                history = pairs_of(messages)
                return source.stream_chat(text, history, greedy, most, temperature, system=system.strip())

            async for step in page.answers.stream(visitor(request), start):
                said = [{"role": "assistant", "content": step.text}] if step.text else []
                shown: list[dict[str, Any]] = [*messages, asked, *said]
                if step.state == "cleared":
                    shown = []
                if step.state == "failed" and not said:  # nothing was said: the question goes back
                    yield text, messages, *controls.at(step)
                else:
                    yield gr.skip(), shown, *controls.at(step)

        controls.wire(page, page.answers, answer, prompt, chatbot, empty=[])
    return page


def instruct_page(source: PageSource, *, links: bool = False) -> Page:
    """The instruct page of `source`; see `chat_page`."""
    page = Page(f"Instruct · {source.name}")
    with page, gr.Column(elem_id="page", elem_classes="instruct"):
        _header("Instruct", source.name, links)
        prompt = gr.Textbox(
            elem_id="prompt",
            label="Instruction",
            placeholder="Tell the model what to do",
            lines=4,
            max_lines=12,
            autofocus=True,
        )
        controls = Controls(source.page_defaults)
        controls.put_buttons()
        response = gr.Textbox(
            elem_id="answer",
            label="Response",
            placeholder="The answer appears here.",
            lines=8,
            max_lines=24,
            interactive=False,
            buttons=["copy"],
        )
        controls.put_note()
        controls.put_options()

        async def answer(
            request: gr.Request, text: str, _: str, system: str, greedy: bool, most: int, temperature: float
        ) -> AsyncIterator[tuple[Any, ...]]:
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.refused("Write an instruction first.")
                return
            yield gr.skip(), "", *controls.running()

            def start() -> Pairs:
                return source.stream_instruct(text, system.strip(), greedy, most, temperature)

            async for step in page.answers.stream(visitor(request), start):
                shown = "" if step.state == "cleared" else step.text
                yield gr.skip(), shown, *controls.at(step)

        controls.wire(page, page.answers, answer, prompt, response, empty="")
    return page


def _header(title: str, model: str, links: bool) -> None:
    pages = {"Chat": CHAT_PATH, "Instruct": INSTRUCT_PATH}
    navigation = "".join(
        f'<a href="..{path}/"{" aria-current=page" if name == title else ""}>{name}</a>'
        for name, path in pages.items()
    )
    links_part = f"<nav>{navigation}</nav>" if links else ""
    gr.HTML(
        f"<header><h1>{title}</h1><p>{escape(model)}</p>{links_part}</header>",
        elem_id="header",
        padding=False,
    )


async def _icon() -> Response:
    return Response(ICON, media_type="image/svg+xml")
