"""The chat and instruct pages, built with gradio."""
