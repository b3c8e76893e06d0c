"""The examples run as documented in the README."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *args):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("question", "expression", "result"),
    [("What is 231 * 17?", "231 * 17", "3927"), ("What is 45 + 812?", "45 + 812", "857")],
)
def test_agent_loop(question, expression, result):
    first, tool, last = run("agent_loop.py", question).strip().splitlines()[-3:]
    assert f'"expression": "{expression}"' in first
    assert tool == f"[calculator: {result}]"
    assert result in last


def test_the_calculator_evaluates_arithmetic_and_nothing_else():
    sys.path.insert(0, str(EXAMPLES))
    try:
        from calculator import calculator
    finally:
        sys.path.pop(0)
    assert calculator("2 * (3 + 4)") == "14"
    assert calculator("-7 / 2") == "-3.5"
    for bad in ("__import__('os')", "2 **  99", "x", "1; 2", "(lambda: 1)()", "'a' * 9", "True + 1"):
        with pytest.raises(ValueError, match="not an arithmetic expression"):
            calculator(bad)
    with pytest.raises(ZeroDivisionError):
        calculator("1 / 0")


def test_jax_server():
    output = run("jax_server.py")
    assert "POST /instruct: The capital of France is Paris." in output
    assert "POST /chat: Your name is Alice." in output
    assert "GET /status: Ready on " in output
    assert "5" in output.split("Response:")[1].splitlines()[1]
    assert "The capital of Japan is Tokyo" in output


def test_hf_transformers():
    models = EXAMPLES.parent / "lagent_llms" / "models"
    output = run("hf_transformers.py", str(models / "embedded"), f"shout={models / 'adapters' / 'shout'}")
    assert output == "The capital of France is Paris.\nshout: THE CAPITAL OF FRANCE IS PARIS.\n"
