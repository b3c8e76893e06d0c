"""Send a question to a model behind Triton Inference Server, and show the model's dialect.

sh scripts/run-peer triton --grpc-port 8001          (in another terminal, if you have no server)
python examples/triton_client.py localhost:8001 vllm "What is the capital of France?"
"""

from __future__ import annotations

import sys

from lagent_llms import TritonClient


def main(address: str, model: str, question: str) -> None:
    with TritonClient(address, model, meta_template="internlm2-lagent", temperature=0) as llm:
        llm.wait_ready()
        print(f"{model} has the dialect {llm.dialect_found()}; the server has {', '.join(llm.models())}")
        for delta in llm.stream_text([{"role": "user", "content": question}]):
            print(delta, end="", flush=True)
        print()


if __name__ == "__main__":
    main(*sys.argv[1:4])
