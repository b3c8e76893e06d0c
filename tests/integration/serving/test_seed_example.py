"""The examples of EasyDeL's documentation: host a model, call it, use it without hosting."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from lagent_llms import JAXServer
from lagent_llms.serving.jax_server.schemas import InstructRequest

ROOT = Path(__file__).parents[3]

HOST = """
import sys

from lagent_llms import JAXServer


def main():
    server = JAXServer.load(
        path=None,
        model=None,
        tokenizer=None,
        config_model=None,
        add_params_field=True,
        config={"port": 0, "max_new_tokens": 40},
        init_shape=(1, 1)
    )
    # Launching the server
    server.fire()  # Launching Server Post and Get APIs with FastApi on https://ip:port/
    print(server.url, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
"""


@contextlib.contextmanager
def hosted():
    """The URL of a server run by a script in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # ends the script
            process.wait(60)


def test_the_examples_with_requests():
    subprocess.run(["sh", str(ROOT / "scripts/peer"), "openai-clients"], check=True)
    with hosted() as url:
        done = subprocess.run(
            [ROOT / ".venv-openai-clients/bin/python", ROOT / "tests/peers/openai-clients/native.py", url],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for kind, parts in (
        ("instruct", ["generate short and useful response", "can you code a simple neural network"]),
        (
            "chat",
            ["hello how are you", "thanks, im here to assist you", "can you code a simple neural network"],
        ),
    ):
        response, whole, used = found[kind]
        assert response
        assert 0 < used <= 40
        assert [whole.index(part) for part in parts] == sorted(whole.index(part) for part in parts)
    assert found["status"]["number_of_served_request_until_last_up_time"] == 2
    assert found["status"]["config"]["max_new_tokens"] == 40


def test_without_hosting(capsys):
    server = JAXServer.load(path=None, add_params_field=True, init_shape=(1, 1), config=None)
    # Predicting with Server
    text = "what is different between llama and alpacas"
    pred = server.forward_instruct_non_api(
        text, "You Are an helpful AI Assistant, generate long and useful responses", False
    )
    print("Input:\n", pred["input"])
    print("Response:\n", pred["response"])
    assert text in pred["input"]
    assert pred["response"]

    string = "hello my name id daniel and i"
    response, num_generated_tokens = server.process(string=string, greedy=False, max_new_tokens=8)
    print(string + response)
    assert capsys.readouterr().out.endswith(string + response + "\n")
    assert 0 < num_generated_tokens <= 8
    server.close()


def test_an_override_as_documented():
    """The default implementation of `forward_instruct`, as EasyDeL's documentation gives it."""

    class Mine(JAXServer):
        def forward_instruct(self, data):
            if not self._funcs_generated:
                return {"status": "down"}

            string = self.config.instruct_format.format(instruct=data.prompt, system=data.system)
            response, used_tokens = [None] * 2
            steps = self.process(string=string, greedy=data.greedy, max_new_tokens=None)
            for response, used_tokens in steps:  # noqa: B007
                ...
            self.number_of_served_request_until_last_up_time += 1
            return {"input": f"{string}", "response": response, "tokens_used": used_tokens}

        def process_chat_history(self, history):
            return "".join(f"Q: {message[0]}\nA: {message[1]}\n" for message in history)

    with Mine.load(config={"max_new_tokens": 16}) as mine:
        theirs = mine.forward_instruct_non_api("hello", "Be brief.", True)
        request = InstructRequest(prompt="hello", system="Be brief.", greedy=True)
        assert theirs == JAXServer.forward_instruct(mine, request)
        assert "Q: a\nA: b\n" in mine.forward_chat_non_api("hello", [["a", "b"]], True)["input"]
    assert mine.forward_instruct_non_api("hello", None, True) == {"status": "down"}
