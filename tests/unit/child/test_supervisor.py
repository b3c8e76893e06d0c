"""A supervisor that ends before it has started the command: an error, and no process gets a signal."""

import itertools

import pytest

from tests.alone import run_alone

SCRIPT = """
    import pathlib, sys, tempfile, threading
    from lagent_llms import ServerStartError
    from lagent_llms.child import process

    folder = pathlib.Path(tempfile.mkdtemp())
    source = process._SUPERVISOR_SCRIPT.read_text()
    program = folder / "python3"  # an interpreter by its name only
    program.write_text("#!/bin/sh\\nexit 3\\n")
    program.chmod(0o755)

    def script(text):
        process._SUPERVISOR_SCRIPT = folder / "supervisor.py"
        process._SUPERVISOR_SCRIPT.write_text(text)

    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    def no_process(*args, **kwargs):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    way = sys.argv[1]
    if way == "no Python":
        sys.executable = str(program)
    elif way == "no fork":
        script(source.replace("os.fork()", "os.execv('/nowhere', ['x'])"))
        assert "/nowhere" in process._SUPERVISOR_SCRIPT.read_text()
    elif way == "no script":
        process._SUPERVISOR_SCRIPT = folder / "nowhere.py"
    elif way == "killed":
        script("import os; os.kill(os.getpid(), 9)")
    elif way == "silent":
        process._START_TIMEOUT = 0.1
        script("import sys; sys.stdin.read()")
    elif way == "nonsense":
        script("import os, sys; os.write(int(sys.argv[3]), b'hello 1 2\\\\n')")
    elif way == "no thread":
        threading.Thread.start = no_thread
    elif way == "no process":
        process.subprocess.Popen = no_process
    try:
        process.Child([sys.executable, "-c", "import time; time.sleep(600)"])
    except ServerStartError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("no Python", "/python3 (sys.executable is"),
        ("no fork", "cannot be started: No such file or directory"),
        ("no script", "can't open file"),
        ("killed", "ended with code -9 before it started it"),
        ("silent", "ended with code 0 before it started it"),
        ("nonsense", "cannot be started: its supervisor process"),
        ("no thread", "cannot be started: can't start new thread"),
        ("no process", "cannot be started: [Errno 11] Resource temporarily unavailable"),
    ],
)
def test_an_end_before_the_start_is_an_error_and_no_signal(way, message):
    assert message in run_alone(SCRIPT, way)


CLOSED = """
    import os, pathlib, sys, time
    from lagent_llms.child.process import Child

    said = pathlib.Path(sys.argv[1])
    code = "import sys, time; print('got', sys.stdin.read(), file=sys.stderr, flush=True); time.sleep(600)"
    child = Child([sys.executable, "-c", code], stdin=b"input")
    for number in range(3):  # as a C library writes to standard error
        try:
            os.write(number, b"noise\\n")
        except OSError:
            pass
    end = time.monotonic() + 60
    while child.last_line != "got input" and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    running = child.ended()
    child.stop()
    said.write_text(f"{child.log_tail}, {running}, {child.ended()}")
"""


@pytest.mark.parametrize(
    "closed",
    [names for size in range(4) for names in itertools.combinations(("<&-", ">&-", "2>&-"), size)],
    ids=" ".join,
)
def test_with_closed_standard_streams(tmp_path, closed):
    run_alone(CLOSED, tmp_path / "said", redirections=" ".join(closed))
    assert (tmp_path / "said").read_text() == "got input, None, was killed by SIGTERM"
