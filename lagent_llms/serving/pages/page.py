"""Build the gradio pages and mount them at /gradio_chat and /gradio_instruct."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import Response

from ...errors import MissingDependency
from ..limits import PAGE_PATHS, Limits
from .generations import MAX_QUEUE, Generations, history_pairs
from .source import PageSource, TextUpdates

try:
    import gradio as gr

    from .controls import Controls, visitor_id
    from .theme import ICON, theme_options
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["CHAT_PATH", "INSTRUCT_PATH", "Page", "chat_page", "instruct_page", "mount_pages"]

CHAT_PATH, INSTRUCT_PATH, _ICON_PATH = PAGE_PATHS


class Page(gr.Blocks):
    """A page with this project's theme, mounted on a server or launched on its own.

    Attributes:
        generations: The running generations of its visitors.
    """

    def __init__(self, title: str) -> None:
        super().__init__(analytics_enabled=False, title=title, fill_width=True)
        self.generations = Generations()

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Serve this page alone; arguments and result are those of `gradio.Blocks.launch`.

        In a script it returns on Ctrl-C, or at once with ``prevent_thread_lock=True``. ``share=True`` needs
        internet access.
        """
        return super().launch(*args, **{**theme_options(), **kwargs})


def mount_pages(app: FastAPI, source: PageSource, limits: Limits) -> None:
    """Mount both pages on `app`, before its lifespan starts.

    Args:
        app: The application.
        source: Answers the requests.
        limits: The limits of the server, which count the generations of the pages as well.
    """
    app.get(_ICON_PATH, include_in_schema=False)(_icon)
    for path, build in ((CHAT_PATH, chat_page), (INSTRUCT_PATH, instruct_page)):
        page = build(source, links=True)
        page.generations.limit(limits)
        page.queue(max_size=MAX_QUEUE)
        gr.mount_gradio_app(
            app,
            page,
            path,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=False,
            **theme_options(),
        )


def chat_page(source: PageSource, *, links: bool = False) -> Page:
    """Build the chat page.

    Args:
        source: Answers the requests.
        links: True adds links between the pages, for when both are mounted.
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
        controls.add_note()
        prompt = gr.Textbox(
            elem_id="prompt",
            label="Message",
            show_label=False,
            placeholder="Write a message",
            max_lines=8,
            autofocus=True,
        )
        controls.add_buttons()
        controls.add_options()

        async def answer(
            request: gr.Request,
            text: str,
            messages: list[dict[str, Any]],
            system: str,
            greedy: bool,
            max_new_tokens: int,
            temperature: float,
        ) -> AsyncIterator[tuple[Any, ...]]:
            user_message = {"role": "user", "content": text}
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.rejected("Write a message first.")
                return
            yield "", [*messages, user_message], *controls.running()

            def start() -> TextUpdates:
                return source.stream_chat(
                    text, history_pairs(messages), greedy, max_new_tokens, temperature, system=system.strip()
                )

            async for progress in page.generations.stream(visitor_id(request), start):
                reply = [{"role": "assistant", "content": progress.text}] if progress.text else []
                shown: list[dict[str, Any]] = [*messages, user_message, *reply]
                if progress.state == "cleared":
                    shown = []
                if progress.state == "failed" and not reply:  # put the text back into the box, to be edited
                    yield text, messages, *controls.updated(progress)
                else:
                    yield gr.skip(), shown, *controls.updated(progress)

        controls.connect(page, page.generations, answer, prompt, chatbot, empty=[])
    return page


def instruct_page(source: PageSource, *, links: bool = False) -> Page:
    """Build the instruct page; arguments as for `chat_page`."""
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
        controls.add_buttons()
        response = gr.Textbox(
            elem_id="answer",
            label="Response",
            placeholder="The answer appears here.",
            lines=8,
            max_lines=24,
            interactive=False,
            buttons=["copy"],
        )
        controls.add_note()
        controls.add_options()

        async def answer(
            request: gr.Request,
            text: str,
            _: str,
            system: str,
            greedy: bool,
            max_new_tokens: int,
            temperature: float,
        ) -> AsyncIterator[tuple[Any, ...]]:
            if not text.strip():
                yield gr.skip(), gr.skip(), *controls.rejected("Write an instruction first.")
                return
            yield gr.skip(), "", *controls.running()

            def start() -> TextUpdates:
                return source.stream_instruct(text, system.strip(), greedy, max_new_tokens, temperature)

            async for progress in page.generations.stream(visitor_id(request), start):
                shown = "" if progress.state == "cleared" else progress.text
                yield gr.skip(), shown, *controls.updated(progress)

        controls.connect(page, page.generations, answer, prompt, response, empty="")
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
