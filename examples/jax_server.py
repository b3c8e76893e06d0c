"""A JAX model behind HTTP, as EasyDeL's JAXServer: serve it, call it over HTTP, and use it without hosting.

    python examples/jax_server.py             one request with and one without HTTP
    python examples/jax_server.py --serve     serve until Ctrl-C

--path serves a model directory in Hugging Face format; the default is the embedded model.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from typing import Any

from lagent_llms import JAXServer


def post(url: str, content: dict[str, Any]) -> Any:
    """POST JSON; return the JSON response."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def ask(server: JAXServer) -> None:
    # over HTTP
    answer = post(f"{server.url}/instruct", {"prompt": "What is the capital of France?", "greedy": True})
    print("POST /instruct:", answer["response"])
    history = [["My name is Alice.", "Nice to meet you, Alice!"]]
    answer = post(f"{server.url}/chat", {"prompt": "What is my name?", "history": history, "greedy": True})
    print("POST /chat:", answer["response"])
    with urllib.request.urlopen(f"{server.url}/status") as response:
        status = json.load(response)
    print("GET /status:", status["status"], "on", ", ".join(status["devices"]))

    # without hosting
    pred = server.forward_instruct_non_api("What is 2 + 3?", "You are a helpful assistant.", True)
    print("Input:\n" + pred["input"])
    print("Response:\n" + pred["response"])

    # from the base: a raw string, continued
    string = "<|im_start|>assistant\nThe capital of Japan is"
    response, num_generated_tokens = server.process(string=string, greedy=True, max_new_tokens=8).result()
    print(string + response, f"({num_generated_tokens} tokens)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", help="a model directory")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    with JAXServer.load(options.path, config={"host": "127.0.0.1", "port": options.port}) as server:
        server.fire()
        print(f"listening on {server.url}", flush=True)
        if not options.serve:
            ask(server)
            return
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            print("finishing what runs")


if __name__ == "__main__":
    main()
