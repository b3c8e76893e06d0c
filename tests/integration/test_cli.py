"""The `lagent-llms` command, in a pipe and at a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from lagent_llms import JAXServer
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL

COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()"]


def run(*args, stdin=None, **env):
    return subprocess.run(
        [*COMMAND, *args],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )


def test_one_question():
    done = run("chat", "What is the capital of France?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "The capital of France is Paris.\n", "")


def test_a_piped_question():
    done = run("chat", stdin="What is the capital of Japan?\n")
    assert (done.returncode, done.stdout) == (0, "The capital of Japan is Tokyo.\n")


def test_flags():
    done = run("chat", "Who are you?", "--system", "You are Luna, a helpful assistant.")
    assert "Luna" in done.stdout
    done = run("chat", "What is the capital of France?", "--stop", "Paris", "--max-new-tokens", "20")
    assert done.stdout == "The capital of France is \n"
    done = run("chat", "Count from 1 to 50.", "--set", "max_new_tokens=3")
    assert len(done.stdout) < 12


def test_a_configuration(tmp_path):
    file = tmp_path / "llm.yaml"
    file.write_text("profiles:\n  loud: {type: lagent_llms.testing.ScriptedLLM, script: HELLO}\n")
    done = run("chat", "hi", "--config", str(file), "--profile", "loud", "--set", "meta_template=chatml")
    assert done.stdout == "HELLO\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["chat", "hi", "--config", "nowhere.yaml"], "error: nowhere.yaml: cannot be read"),
        (
            ["chat", "hi", "--temperature", "-1"],
            "error: --temperature=-1.0: allowed is a number of 0 or more",
        ),
        (["chat", "hi", "--set", "temprature=1"], "did you mean 'temperature'"),
        (["chat", "hi", "--set", "x"], "expected key=value"),
        (["chat", "hi", "--set", "top_p=2"], "error: --set top_p=2: allowed is"),
        (["chat", "hi", "--set", "x=[1"], "error: --set x=[1: the value is not YAML"),
        (["chat", ""], "error: the prompt is empty"),
        (["render", "hi", "--template", "internlm3"], "internlm2"),
        (["render"], "nothing to render"),
    ],
)
def test_errors_are_one_line(args, message):
    done = run(*args, stdin="" if args == ["render"] else None)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_render():
    done = run("render", "hi", "--template", "chatml", "--system", "Be brief.")
    assert done.stdout == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert run("render", "hi").stdout.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_render_messages(tmp_path):
    file = tmp_path / "dialog.json"
    file.write_text('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]')
    done = run("render", "--template", "chatml", "--messages", str(file), "--no-generation-prompt")
    assert done.stdout == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    file.write_text('[{"role": "user"}]')
    assert "'content' is missing" in run("render", "--messages", str(file)).stderr


def test_check_finds_template_drift(tmp_path):
    chatml = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (tmp_path / "chat_template.jinja").write_text(chatml)
    same = run("render", "--check", str(tmp_path), "chatml")
    assert same.returncode == 0, same.stdout
    assert "0 different" in same.stdout
    other = run("render", "--check", str(EMBEDDED_MODEL), "llama-3")
    assert other.returncode == 1
    assert "first difference at character" in other.stdout
    assert "needs the name of a family" in run("render", "--check", str(EMBEDDED_MODEL)).stderr


@pytest.fixture(scope="module")
def server():
    with JAXServer.load(config={"host": "127.0.0.1", "port": 0}) as server:
        server.fire()
        yield server


def test_a_server_without_a_configuration_file(server, tmp_path):
    url, paris = f"{server.url}/v1", "The capital of France is Paris."
    question = "What is the capital of France?"
    greedy = ("--set", "temperature=0")
    assert run("chat", question, "--url", url, *greedy).stdout == f"{paris}\n"
    elsewhere = {"LAGENT_LLM_CONFIG": "nowhere.yaml", "LAGENT_LLM_PROFILE": "nothing"}
    done = run("chat", question, "--backend", "JAXClient", "--url", url, "--temperature", "0", **elsewhere)
    assert (done.returncode, done.stdout) == (0, f"{paris}\n")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": question}) + "\n")
    files = (str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"))
    done = run("batch", *files, "--url", url, "--model", "embedded", "--prompt-template", "{prompt}", *greedy)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["error"] is None
    done = run("doctor", "--url", url, COLUMNS="200")
    assert "create_llm() makes: OpenAIClient" in done.stdout
    assert "its server's models: embedded" in done.stdout
    rendered = run("render", "hi", "--backend", "JAXPipeline", "--model", str(EMBEDDED_MODEL)).stdout
    assert rendered.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_errors_of_a_server_without_a_configuration_file():
    for args, message in (
        (("chat", "hi", "--url", "http://127.0.0.1:1", "--config", "x"), "--url and --config are both given"),
        (("chat", "hi", "--url", "http://"), "--url='http://': allowed is an http or https URL"),
        (("serve", "--url", "grpc://127.0.0.1:1"), "--url grpc://127.0.0.1:1: OpenAIClient, the default"),
        (("render", "hi", "--url", "http://127.0.0.1:1"), "OpenAIClient has no meta_template"),
    ):
        done = run(*args)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_doctor():
    done = run("doctor", COLUMNS="200")
    assert done.returncode == 0
    assert re.search(r"JAXPipeline\s+ready\s+jax \d", done.stdout)
    assert "create_llm() makes: JAXPipeline" in done.stdout


def test_a_closed_pipe():
    done = subprocess.run(
        f"{sys.executable} -c 'from lagent_llms.cli import main; main()' chat 'Count from 1 to 60.'"
        " | head -c 4",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1, 2", "")


class Terminal:
    """`lagent-llms chat` at a pseudo-terminal."""

    def __init__(self, *args):
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # A background process ignores SIGINT, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(slave)
        self.seen = ""

    def until(self, pattern, seconds=60):
        """Read until `pattern` is printed; return the output up to its end and remove it from `seen`."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} was not printed; the output is {self.seen!r}"
            try:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"ended before {pattern!r}: {self.seen!r}") from None
        found, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return found

    def type(self, text):
        os.write(self._master, text.encode())

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*args):
        opened.append(Terminal(*args))
        return opened[-1]

    yield open_terminal
    for item in opened:
        item.close()


def test_a_conversation_with_history(terminal):
    chat = terminal("chat")
    chat.until("loading the model")
    chat.until("\n> ")
    chat.type("My name is Alice.\n")
    chat.until("\n> ")
    chat.type("What is my name?\n")
    assert "Your name is Alice" in chat.until("\n> ")
    chat.type("/reset\n")
    chat.until("cleared")
    chat.until("> ")
    chat.type("What is my name?\n")
    assert "Your name is Alice" not in chat.until("\n> ")
    chat.type("\x04")
    assert chat.process.wait(20) == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal):
    chat = terminal("chat", "--set", "ignore_eos=true", "--max-new-tokens", "1900")
    chat.until("> ")
    chat.type("Count from 1 to 60.\n")
    chat.until("1, 2, 3")
    chat.interrupt()
    chat.until(r"\(stopped\)")
    chat.until("> ")
    time.sleep(1)  # readline loses an interrupt during its prompt
    chat.interrupt()
    chat.until("Ctrl-D exits")
    chat.type("/exit\n")
    assert chat.process.wait(20) == 0
