"""What a model writes cannot steer the terminal, and a stdout that fails is one sentence."""

import json
import os
import pty
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()"]
STRICT = {**os.environ, "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def config(tmp_path):
    def config(script, **more):
        path = tmp_path / "llm.yaml"
        settings = {
            "type": "lagent_llms.testing.ScriptedLLM",
            "script": script,
            "meta_template": "chatml",
            **more,
        }
        path.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        return str(path)

    return config


def at_a_terminal(*args, typed=b""):
    """Run the command at a pseudo-terminal; return its exit status and what it printed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    if typed:
        os.write(master, typed)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the last process of the terminal has ended
            break
        if not data:
            break
        shown += data
    os.close(master)
    return process.wait(60), shown.decode(errors="replace")


def run(*args, **options):
    return subprocess.run([*COMMAND, *args], capture_output=True, timeout=120, check=False, **options)


HOSTILE = ["a\x1b]52;c;", "aGk=\x07b\x1b", "[2Jc\t\x9b31md\n"]


def test_an_answer_at_a_terminal_is_stripped_and_in_a_pipe_it_is_not(config):
    status, shown = at_a_terminal("chat", "hi", "--config", config(HOSTILE))
    assert status == 0
    assert "abc\td\r\n" in shown
    assert "52;c" not in shown
    assert "\x1b[2J" not in shown
    done = run("chat", "hi", "--config", config(HOSTILE), stdin=subprocess.DEVNULL)
    assert done.stdout.decode() == "".join(HOSTILE) + "\n"


def test_a_conversation_at_a_terminal_is_stripped(config):
    status, shown = at_a_terminal("chat", "--config", config(HOSTILE), typed=b"hi\n\xff\n/exit\n")
    assert status == 0
    assert "abc\td\r\n" in shown
    assert "]52;c" not in shown


def test_errors_at_a_terminal_are_stripped():
    status, shown = at_a_terminal("chat", "hi", "--config", "\x1b]52;c;aGk=\x07x.yaml")
    assert status == 1
    assert "error: x.yaml: cannot be read" in shown


def fails(done, message):
    """Assert that the command ended with one sentence."""
    error = done.stderr.decode()
    assert done.returncode == 1, error
    assert error.count("\n") == 1, error
    assert message in error


@pytest.mark.parametrize("args", [["chat", "hi"], ["render", "hi"], ["doctor"], ["--help"]])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="macOS has no /dev/full")
def test_a_full_stdout(config, args):
    given = [] if args == ["--help"] else ["--config", config("answer")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *args, *given],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    fails(done, "No space left on device")


def closed(descriptor, *args, **options):
    """Run the command with a closed file descriptor."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {descriptor}', "sh", *COMMAND, *args],
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize("args", [["chat", "hi"], ["render", "hi"], ["doctor"]])
def test_a_closed_stdout(config, args):
    fails(closed(">&-", *args, "--config", config("answer")), "stdout is closed")


@pytest.mark.parametrize("args", [["chat"], ["chat", "-"], ["render", "-"]])
def test_a_closed_stdin(config, args):
    fails(closed("<&-", *args, "--config", config("answer"), stdout=subprocess.DEVNULL), "stdin is closed")


def test_stdin_that_is_no_text(config):
    fails(
        run("chat", "--config", config("answer"), input=b"\xff\xfe", env=STRICT),
        "the prompt cannot be read from stdin",
    )


def test_a_closed_stderr(config):
    done = closed("2>&-", "chat", "hi", "--config", config("answer"), stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"answer\n")
    done = closed("2>&-", "chat", "hi", "--config", "gone.yaml", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize(
    ("command", "script", "encoding"),
    [
        ("chat", "h\u00e9", "ascii"),
        ("chat", "\u4f60", "iso8859-1"),
        ("chat", ["a", "\ud83d"], "utf-8"),
        ("render", "h\u00e9", "ascii"),
        ("render", "\u4f60", "iso8859-1"),
    ],
)
def test_text_that_stdout_cannot_encode(config, command, script, encoding):
    path = config(script)
    done = run(
        command,
        "h\u00e9 \u4f60",
        "--config",
        path,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    fails(done, f"its encoding is {encoding}; set PYTHONIOENCODING=utf-8")


def test_a_reader_that_has_gone(config):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "chat", "hi", "--config", config(["answer"] * 100)],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
