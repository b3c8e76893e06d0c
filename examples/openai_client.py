"""Ask any server with OpenAI's routes a question, and show what kind of server it is.

sh scripts/run-peer llamacpp --port 8080             (in another terminal, if you have no server)
python examples/openai_client.py http://127.0.0.1:8080/v1 "What is the capital of France?"
"""

import sys

from lagent_llms import OpenAIClient


def main(base_url: str, question: str) -> None:
    with OpenAIClient(base_url) as llm:  # nothing else is sent: the server's own defaults apply
        for delta in llm.stream_text([{"role": "user", "content": question}]):
            print(delta, end="", flush=True)
        print(f"\n({llm.flavour}, model {llm.model_name})")


if __name__ == "__main__":
    main(*sys.argv[1:3])
