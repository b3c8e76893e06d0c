"""Run a program in a session of its own, with a shell beside it that a stray signal would reach."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_alone(code, *args, redirections="", timeout=120):
    """Run Python `code` under a shell and return the output of both; the shell must survive.

    Args:
        code: Program text.
        *args: Its arguments.
        redirections: Redirections of the shell for the program, such as '<&- 2>&-'.
        timeout: Seconds.
    """
    script = f'python=$1; code=$2; shift 2; "$python" -c "$code" "$@" {redirections}; echo "code $?"'
    words = ["/bin/sh", "-c", script, "sh", sys.executable, textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(
        words,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "no_proxy": "*"},
    )
    assert done.returncode == 0, f"the process group was signalled: {done}"
    assert done.stdout.endswith("code 0\n"), done.stdout + done.stderr
    return done.stdout.removesuffix("code 0\n")
