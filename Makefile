# Shorthands; every line is a command of the README or of docs/.
.PHONY: chat test lint benchmarks screenshots peer-lmdeploy

chat:  ## talk to the embedded model
	sh scripts/chat

test:  ## all that CI runs
	sh scripts/test

lint:
	sh scripts/venv .venv dev,reference
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

benchmarks:  ## run them all and renew docs/benchmarks.md
	sh scripts/venv .venv dev,reference
	.venv/bin/python -m benchmarks --write

screenshots:  ## take the pictures of docs/images anew
	sh scripts/screenshots

peer-lmdeploy:  ## lmdeploy's own api_server with the embedded model; for example: make peer-lmdeploy ARGS="--server-port 23333"
	sh scripts/run-peer lmdeploy $(ARGS)
