"""One file per backend; each states only how it differs from `BaseLLM`."""
