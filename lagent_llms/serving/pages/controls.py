"""What both pages have around their texts: a line of notes, the buttons, the advanced options."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from .answers import AT_ONCE, Answers, Progress
from .source import PageDefaults

__all__ = ["Controls", "visitor"]

#: Our own notes tell of progress, and nothing of a page is an API.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Controls:
    """The controls of one page. Each ``put_…`` places its part where it is called.

    Args:
        defaults: What the advanced options say at first.
    """

    def __init__(self, defaults: PageDefaults) -> None:
        self._defaults = defaults

    def put_note(self) -> None:
        """The line that says what happened."""
        self.note = gr.HTML(elem_id="note", padding=False)

    def put_buttons(self) -> None:
        """Submit, Stop, Clear."""
        with gr.Row(elem_id="buttons"):
            self.submit = gr.Button("Submit", variant="primary", elem_id="submit")
            self.stop = gr.Button("Stop", elem_id="stop", interactive=False)
            self.clear = gr.Button("Clear", elem_id="clear")

    def put_options(self) -> None:
        """The advanced options."""
        at_first = self._defaults
        with gr.Accordion("Advanced Options", open=False, elem_id="advanced"):
            system = gr.Textbox(
                at_first.system,
                label="System prompt",
                placeholder="Who the model is, and how it should answer",
                lines=2,
                max_lines=6,
                elem_id="system",
            )
            tokens = gr.Slider(
                1,
                at_first.most_new_tokens,
                at_first.max_new_tokens,
                step=1,
                label="Max new tokens",
                elem_id="max_new_tokens",
            )
            temperature = gr.Slider(
                0,
                max(2.0, at_first.temperature),
                at_first.temperature,
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

    def refused(self, why: str) -> tuple[Any, ...]:
        """Note and buttons when nothing was begun."""
        return _note(why, "hint"), gr.skip(), gr.skip()

    def running(self) -> tuple[Any, ...]:
        """Note and buttons when an answer begins."""
        return _note("Answering …", "running"), gr.update(interactive=False), gr.update(interactive=True)

    def at(self, step: Progress) -> tuple[Any, ...]:
        """Note and buttons at a step of an answer."""
        if step.state == "running":
            return gr.skip(), gr.skip(), gr.skip()
        known = step.n_tokens is not None
        tokens = f"{step.n_tokens:,} token{'' if step.n_tokens == 1 else 's'}" if known else ""
        note = {
            "done": _note(tokens or "Done"),
            "stopped": _note(f"Stopped after {tokens}" if known else "Stopped"),
            "cleared": "",
            "failed": _note(step.error, "error"),
        }[step.state]
        return note, gr.update(interactive=True), gr.update(interactive=False)

    def wire(
        self, page: gr.Blocks, answers: Answers, answer: Any, prompt: Any, output: Any, *, empty: Any
    ) -> None:
        """Connect buttons and keys.

        Args:
            page: Where they are.
            answers: What Stop and Clear stop.
            answer: What Submit runs.
            prompt: Where the visitor writes.
            output: Where the answer appears.
            empty: Its value when it is cleared.
        """
        everything = [prompt, output, self.note, self.submit, self.stop]

        idle = gr.update(interactive=True), gr.update(interactive=False)

        async def stop(request: gr.Request) -> tuple[Any, ...]:
            answers.stop(visitor(request))
            return idle  # which the end of the answer says too, unless the server was restarted meanwhile

        async def leave(request: gr.Request) -> None:
            answers.stop(visitor(request))

        async def clear(request: gr.Request) -> tuple[Any, ...]:
            answers.stop(visitor(request), clear=True)
            return "", empty, "", *idle

        gr.on(
            [prompt.submit, self.submit.click],
            answer,
            [prompt, output, *self._options],
            everything,
            concurrency_limit=AT_ONCE,
            **_QUIET,
        )
        self.stop.click(stop, None, [self.submit, self.stop], queue=False, **_QUIET)
        self.clear.click(clear, None, everything, queue=False, **_QUIET)
        page.unload(leave)  # a page that is closed wants no answer


def visitor(request: gr.Request) -> str:
    """Who asks: one open page."""
    return str(request.session_hash)


def _note(text: str, kind: str = "") -> str:
    role = "alert" if kind in ("hint", "error") else "status"
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'
