"""Descriptions of tools for a model: OpenAI's dicts, and Python functions made into them."""
