"""The extra `cli`: the commands show their help, and one of them works."""

import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()"]


def run(*arguments):
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("command", [[], ["chat"], ["render"], ["serve"], ["doctor"]])
def test_help(command):
    assert "--help" in run(*command, "--help")


def test_render():
    assert run("render", "Hi", "--template", "chatml").startswith("<|im_start|>user\nHi<|im_end|>\n")
