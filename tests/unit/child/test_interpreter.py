"""The interpreter for child processes: only a file that can be one is started."""

import os
import subprocess
import sys

import pytest

from lagent_llms import ServerStartError
from lagent_llms.child.interpreter import find_python


@pytest.mark.parametrize("executable", ["/bin/false", "/usr/sbin/uwsgi", "", None])
def test_an_executable_that_is_no_python_is_not_started(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    python = find_python()
    assert os.path.dirname(python) in {
        os.path.join(prefix, "bin") for prefix in (sys.prefix, sys.base_prefix)
    }
    code = "import sys; print(sys.version_info[:2])"
    assert subprocess.check_output([python, "-c", code], text=True).strip() == str(sys.version_info[:2])


def test_a_frozen_program_is_not_started_again(monkeypatch, tmp_path):
    program = tmp_path / "python-of-mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert find_python() == str(program)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert find_python() != str(program)


def test_no_interpreter_is_an_error_that_names_the_executable(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/opt/app/server")
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    with pytest.raises(ServerStartError, match="sys.executable='/opt/app/server' is no Python interpreter"):
        find_python()
