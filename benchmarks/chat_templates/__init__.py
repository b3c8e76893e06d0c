"""Comparison of chat templates with transformers: python -m benchmarks.chat_templates FOLDER ..."""
