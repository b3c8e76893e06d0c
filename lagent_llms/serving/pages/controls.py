"""The controls shared by both pages: the status note, the buttons, the advanced options."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from .generations import MAX_CONCURRENT, Generations, Progress
from .source import PageDefaults

__all__ = ["Controls", "visitor_id"]

#: Hide gradio's progress display, which the note replaces, and keep the handlers out of gradio's API.
_EVENT_OPTIONS: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Controls:
    """The controls of one page. Each ``add_…`` method adds components to the current gradio layout.

    Args:
        defaults: Initial values of the advanced options.
    """

    def __init__(self, defaults: PageDefaults) -> None:
        self._defaults = defaults

    def add_note(self) -> None:
        """Add the status note."""
        self.note = gr.HTML(elem_id="note", padding=False)

    def add_buttons(self) -> None:
        """Add Submit, Stop and Clear."""
        with gr.Row(elem_id="buttons"):
            self.submit = gr.Button("Submit", variant="primary", elem_id="submit")
            self.stop = gr.Button("Stop", elem_id="stop", interactive=False)
            self.clear = gr.Button("Clear", elem_id="clear")

    def add_options(self) -> None:
        """Add the advanced options."""
        defaults = self._defaults
        with gr.Accordion("Advanced Options", open=False, elem_id="advanced"):
            system = gr.Textbox(
                defaults.system,
                label="System prompt",
                placeholder="The model's role and style, for example: You are a concise assistant.",
                lines=2,
                max_lines=6,
                elem_id="system",
            )
            tokens = gr.Slider(
                1,
                defaults.max_new_tokens_limit,
                defaults.max_new_tokens,
                step=1,
                label="Max new tokens",
                elem_id="max_new_tokens",
            )
            temperature = gr.Slider(
                0,
                max(2.0, defaults.temperature),
                defaults.temperature,
                step=0.05,
                label="Temperature",
                elem_id="temperature",
            )
            greedy = gr.Checkbox(
                False,
                label="Greedy",
                info="Always the most probable token, whatever the temperature",
                elem_id="greedy",
            )
        self._options = [system, greedy, tokens, temperature]

    # The three methods below return updates of (note, Submit, Stop).

    def rejected(self, reason: str) -> tuple[Any, ...]:
        """Updates when no generation was started."""
        return _note(reason, "hint"), gr.skip(), gr.skip()

    def running(self) -> tuple[Any, ...]:
        """Updates when a generation starts."""
        return _note("Answering …", "running"), gr.update(interactive=False), gr.update(interactive=True)

    def updated(self, progress: Progress) -> tuple[Any, ...]:
        """Updates for the progress of a generation."""
        if progress.state == "running":
            return gr.skip(), gr.skip(), gr.skip()
        known = progress.n_tokens is not None
        tokens = f"{progress.n_tokens:,} token{'' if progress.n_tokens == 1 else 's'}" if known else ""
        note = {
            "done": _note(tokens or "Done"),
            "stopped": _note(f"Stopped after {tokens}" if known else "Stopped"),
            "cleared": "",
            "failed": _note(progress.error, "error"),
        }[progress.state]
        return note, gr.update(interactive=True), gr.update(interactive=False)

    def connect(
        self, page: gr.Blocks, generations: Generations, answer: Any, prompt: Any, output: Any, *, empty: Any
    ) -> None:
        """Connect the buttons and the Enter key to their handlers.

        Args:
            page: The page.
            generations: The generations that Stop, Clear and closing the page stop.
            answer: The handler of Submit.
            prompt: The component for the visitor's text.
            output: The component for the answer.
            empty: The value of `output` after Clear.
        """
        outputs = [prompt, output, self.note, self.submit, self.stop]
        idle = gr.update(interactive=True), gr.update(interactive=False)

        async def stop(request: gr.Request) -> tuple[Any, ...]:
            generations.stop(visitor_id(request))
            return idle  # also sent at the end of the generation, but not after a restart of the server

        async def unload(request: gr.Request) -> None:
            generations.stop(visitor_id(request))

        async def clear(request: gr.Request) -> tuple[Any, ...]:
            generations.stop(visitor_id(request), clear=True)
            return "", empty, "", *idle

        gr.on(
            [prompt.submit, self.submit.click],
            answer,
            [prompt, output, *self._options],
            outputs,
            concurrency_limit=MAX_CONCURRENT,
            **_EVENT_OPTIONS,
        )
        self.stop.click(stop, None, [self.submit, self.stop], queue=False, **_EVENT_OPTIONS)
        self.clear.click(clear, None, outputs, queue=False, **_EVENT_OPTIONS)
        page.unload(unload)


def visitor_id(request: gr.Request) -> str:
    """The id of the open page that sent the request: gradio's session hash."""
    return str(request.session_hash)


def _note(text: str, kind: str = "") -> str:
    role = "alert" if kind in ("hint", "error") else "status"
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'
