"""The environment in which lagent is installed."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def lagent():
    """Run a Python command in lagent's environment and return what it prints."""
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lagent"], check=True)

    def run(*arguments):
        command = [ROOT / ".venv-lagent" / "bin" / "python", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
