"""Read what a model has written: its reasoning, its text and its calls of tools."""
