# Shorthands; every line is a command of the README or of docs/.
.PHONY: chat test check benchmarks promises screenshots peer-lmdeploy peer-triton peer-lorax peer-llamacpp

PROMISES = -p lagent_llms.testing.conformance.table --promises docs/promises.md

chat:  ## chat with the embedded model
	sh scripts/chat

test:  ## all that CI runs
	sh scripts/test

check:  ## lint, format, types and unit tests
	sh scripts/check

benchmarks:  ## run them all and renew docs/benchmarks.md
	sh scripts/venv .venv dev,reference,server,plot
	.venv/bin/python -m benchmarks --write

promises:  ## run the conformance tests on every backend and renew docs/promises.md
	sh scripts/venv .venv dev,reference,server
	sh scripts/peer lmdeploy
	.venv/bin/python -m pytest -q $(PROMISES) tests/conformance
	.venv-lmdeploy/bin/python -m pytest -q $(PROMISES) tests/conformance

screenshots:  ## renew the screenshots in docs/images
	sh scripts/screenshots

peer-lmdeploy:  ## lmdeploy's own api_server with the embedded model; for example: make peer-lmdeploy ARGS="--server-port 23333"
	sh scripts/run-peer lmdeploy $(ARGS)

peer-triton:  ## NVIDIA's tritonserver with models of every dialect; for example: make peer-triton ARGS="--grpc-port 8001"
	sh scripts/run-peer triton $(ARGS)

peer-lorax:  ## a server that speaks LoRAX's protocol with the embedded model; for example: make peer-lorax ARGS="--port 8080"
	sh scripts/run-peer lorax $(ARGS)

peer-llamacpp:  ## llama.cpp's own server with the embedded model; for example: make peer-llamacpp ARGS="--port 8080"
	sh scripts/run-peer llamacpp $(ARGS)
