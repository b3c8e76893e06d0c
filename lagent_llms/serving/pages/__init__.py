"""The chat and instruct pages, made with gradio."""
