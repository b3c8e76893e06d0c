"""Theme, style sheet and icon of the pages; all are served locally, fonts included."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["ICON", "theme_options"]

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

#: A speech bubble, served as /favicon.ico.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="8" fill="#0f766e"/>'
    '<path d="M9 10h14v9h-7l-4 4v-4H9z" fill="#fff"/></svg>'
)


def theme_options() -> dict[str, Any]:
    """Keyword arguments for `gradio.mount_gradio_app` and `gradio.Blocks.launch`."""
    arguments: dict[str, Any] = {
        "theme": _theme(),
        "css_paths": Path(__file__).with_name("page.css"),
        "footer_links": [],
    }
    if "run_history" in inspect.signature(gr.mount_gradio_app).parameters:  # older releases keep no history
        arguments["run_history"] = False  # dialogs are private and must not outlive the page
    return arguments


def _theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="stone",
        text_size="lg",
        radius_size="lg",
        font=_SANS,
        font_mono=_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_weight="500",
        block_shadow="none",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_border_width="1px",
        input_border_width_dark="1px",
        button_border_width="1px",
        button_border_width_dark="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, *primary_500 22%, transparent)",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_large_text_size="*text_md",
        button_large_text_weight="500",
        button_large_padding="8px 18px",
        button_large_radius="*radius_md",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_600",
    )
