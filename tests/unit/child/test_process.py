"""A child server starts, is supervised, and leaves no process behind when its owner exits."""

import contextlib
import gc
import io
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import ServerStartError
from lagent_llms.child.log import redact
from lagent_llms.child.process import Child
from lagent_llms.child.startup import Startup
from tests.alone import run_alone

# A server with a child in a session and process group of its own, which killpg on the server cannot reach.
SERVER = """
    import os, signal, socket, subprocess, sys, time
    runaway = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("pids", os.getpid(), runaway.pid, flush=True)
    time.sleep(600)
"""


def python(code, *args):
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def exists(pid):
    """True if the process exists, zombies included."""
    return Path(f"/proc/{pid}").exists()


def pids_in(text):
    words = text.split()
    return [int(word) for word in words[words.index("pids") + 1 :][:2]]


@contextlib.contextmanager
def started(*args, **kwargs):
    child = Child(*args, **kwargs)
    try:
        yield child
    finally:
        child.stop()


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("on_sigterm", ["polite", "stubborn"])
def test_stop_leaves_no_process(port, on_sigterm):
    child = Child(python(SERVER, port, on_sigterm), grace=0.5)
    assert wait_until(lambda: "pids" in child.log_tail)
    pids = [child.pid, child._supervisor.pid, *pids_in(child.log_tail)]
    assert child.ended() is None
    assert all(map(exists, pids))
    assert not is_free(port)
    child.stop()
    assert not any(map(exists, pids))
    assert is_free(port)
    assert child.ended() == f"was killed by {'SIGTERM' if on_sigterm == 'polite' else 'SIGKILL'}"
    child.stop()


def test_when_a_child_exits_by_itself_its_descendants_are_killed(port):
    with started(python(SERVER, port)) as child:
        assert wait_until(lambda: "pids" in child.log_tail)
        os.kill(child.pid, signal.SIGKILL)
        assert wait_until(child.ended)
        assert child.ended() == "was killed by SIGKILL"
        assert wait_until(lambda: not any(map(exists, [*pids_in(child.log_tail), child._supervisor.pid])))


def test_a_failure_has_the_exit_code_and_the_last_log_lines():
    with started(python("import sys; print('one'); print('two', file=sys.stderr); sys.exit(7)")) as child:
        assert wait_until(child.ended)
        assert child.ended() == "exited with code 7"
        error = child.failure("it died")
        assert sorted(error.log_tail.splitlines()) == ["one", "two"]
        assert str(error) == f"it died\n--- last lines of its log ---\n{error.log_tail}"


def test_a_missing_program_is_an_error():
    with pytest.raises(ServerStartError, match="no such program"):
        Child(["no-such-program-here"])


def test_environment_variables_are_set_and_removed():
    code = "import os; print(os.environ['A'], 'HOME' in os.environ)"
    with started(python(code), env={"A": "1", "HOME": None}) as child:
        assert wait_until(child.ended)
        assert child.failure("").log_tail == "1 False"


def test_the_child_inherits_standard_input_and_no_other_descriptor():
    code = "import os, sys; print(sys.stdin.read(), sorted(os.listdir('/proc/self/fd'))[:-1])"
    with started(python(code), stdin=b"secret") as child:
        assert wait_until(child.ended)
        assert child.failure("").log_tail == "secret ['0', '1', '2']"


def test_the_log_is_bounded_clean_and_without_secrets(tmp_path):
    code = r"""
        import sys
        print("\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\key\x1b]8;;\x07 sk-SECRET!")
        print("\x1b]" * 32_000)
        for number in range(500):
            sys.stdout.write(f"\rloading {number} %")
        print("\n" + "x" * 5_000_000)
        print("last \xff line", flush=True)
    """
    file = tmp_path / "log"
    with started(python(code), secrets=["sk-SECRET"], log_file=file) as child:
        assert wait_until(child.ended)
        lines = child.failure("").log_tail.splitlines()
    assert len(lines) == 100
    assert lines[0] == "loading 402 %"
    assert len(lines[-2]) == 2000
    assert lines[-1].startswith("last ")
    assert file.read_text().splitlines()[0] == "red key ***!"
    assert redact("a KEY b", ["", "KEY"]) == "a *** b"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="macOS has no /dev/full")
def test_a_child_runs_on_although_its_log_file_cannot_be_written():
    code = "for number in range(50_000): print('line', number)"
    with started(python(code), log_file="/dev/full") as child:
        assert wait_until(child.ended)
        assert child.ended() == "exited with code 0"
        assert child.failure("").log_tail.splitlines()[-1] == "line 49999"


def test_two_threads_can_stop_a_child():
    child = Child(python("import time; time.sleep(600)"))
    threads = [threading.Thread(target=child.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not exists(child.pid)


def test_a_thread_that_ends_leaves_the_child_alone():
    made = []
    thread = threading.Thread(target=lambda: made.append(Child(python("import time; time.sleep(600)"))))
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert made[0].ended() is None
    made[0].stop()


def test_a_child_that_was_just_started_is_stopped_by_sigterm():
    for _ in range(5):
        child = Child(python("import time; time.sleep(600)"), grace=60)
        child.stop()
        assert child.ended() == "was killed by SIGTERM"


def test_a_garbage_collected_child_is_stopped():
    child = Child(python("import time; time.sleep(600)"))
    pid = child.pid
    del child
    gc.collect()
    assert wait_until(lambda: not exists(pid))


def test_a_killed_supervisor_ends_the_child(port):
    with started(python(SERVER, port)) as child:
        assert wait_until(lambda: "pids" in child.log_tail)
        _, runaway = pids_in(child.log_tail)
        child._supervisor.kill()
        assert wait_until(lambda: not exists(child.pid))
        assert wait_until(child.ended)
        os.kill(
            runaway, signal.SIGKILL
        )  # only a running supervisor finds processes that left the process group


# Exit of the owner.

OWNER = """
    import os, signal, sys, threading, time
    from lagent_llms.child.process import Child

    def start():
        global child
        child = Child([sys.executable, "-c", SERVER, PORT, ON_SIGTERM], grace=0.5)
        while "pids" not in child.log_tail:
            assert child.ended() is None, child.log_tail
            time.sleep(0.01)
        print(child.log_tail, child._supervisor.pid, flush=True)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
"""


def owner(port, ending, on_sigterm="polite"):
    head = f"SERVER, PORT, ON_SIGTERM = {textwrap.dedent(SERVER)!r}, '{port}', {on_sigterm!r}\n"
    code = head + textwrap.dedent(OWNER) + textwrap.dedent(ending)
    root = Path(lagent_llms.__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
        # Tests run in the background inherit an ignored SIGINT, and the owner would inherit it from them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return process, [*pids_in(line), int(line.split()[-1])]


@pytest.mark.parametrize("on_sigterm", ["polite", "stubborn"])
@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit(0)",
        "raise ValueError",
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
        "os._exit(1)",
        "if os.fork() == 0: time.sleep(60)\nos.kill(os.getpid(), signal.SIGKILL)",
    ],
    ids=["exit", "exception", "sigterm", "sigkill", "sigint", "_exit", "a fork lives on"],
)
def test_no_orphan_after_the_owner_ends(port, ending, on_sigterm):
    process, pids = owner(port, ending, on_sigterm)
    try:
        process.wait(60)
        assert wait_until(lambda: not any(map(exists, pids)))
        assert is_free(port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_port_is_free_once_the_owner_has_exited(port):
    process, pids = owner(port, "sys.exit(0)")
    process.communicate(timeout=60)
    assert is_free(port)
    assert not any(map(exists, pids))


def test_a_fork_of_the_owner_does_not_end_the_child(port):
    process, pids = owner(port, "if os.fork() == 0: child.stop(); sys.exit(0)\nos.wait(); time.sleep(60)")
    try:
        time.sleep(1)
        assert all(map(exists, pids))
    finally:
        process.kill()
        process.communicate()
    assert wait_until(lambda: not any(map(exists, pids)))


# Forks of the owner.

FORK = """
    import gc, multiprocessing, os, subprocess, sys, threading, time
    from lagent_llms.child import process
    from lagent_llms.child.process import Child

    def sleeper(code="import time; time.sleep(600)"):
        return Child([sys.executable, "-c", code], grace=0.5)

    def in_a_fork(work):
        pid = os.fork()
        if pid == 0:
            import signal
            signal.alarm(30)  # a deadlock ends the fork
            work()
            sys.stdout.flush()
            os._exit(0)
        return pid

    def wait_until(condition):
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        return condition()

    def gone(pid):
        return os.waitpid(pid, 0)[1] == 0
"""


def forked(code):
    return run_alone(textwrap.dedent(FORK) + textwrap.dedent(code)).splitlines()


def test_nothing_in_a_fork_ends_the_child():
    code = """
        child = sleeper()

        def work():
            assert child.ended() is None
            child.request_stop()
            child.stop()
            assert child.failure("x").log_tail == ""
            process._stop_children_at_exit()
            assert child.ended() is None

        assert gone(in_a_fork(work))

        def forget():
            global child
            del child
            gc.collect()

        assert gone(in_a_fork(forget))
        pid = os.fork()
        if pid == 0:
            sys.exit(0)  # with all that happens at the exit of an interpreter
        assert gone(pid)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(state, range(4)))
        time.sleep(1.5)  # the supervisor looks for its parent every second
        print(child.ended(), child.is_owner)
        child.stop()
        print(child.ended())
    """
    code = "def state(_): return child.ended(), child.is_owner\n" + textwrap.dedent(code)
    assert forked(code) == [str([(None, False)] * 4), "None True", "was killed by SIGTERM"]


def test_a_fork_notices_the_end_and_leaves_the_status_to_the_owner():
    code = """
        exit = "import signal, sys; signal.signal(10, lambda *_: sys.exit(7)); "
        child = sleeper(exit + "print('ready', flush=True); signal.pause()")
        assert wait_until(lambda: child.last_line == "ready")

        def work():
            assert wait_until(child.ended)
            # One write: the lines of the forks must not mix.
            os.write(1, f"{child.ended()} | {child.failure('x').log_tail}\\n".encode())

        forks = [in_a_fork(work) for _ in range(3)]
        os.kill(child.pid, 10)
        assert all(map(gone, forks))
        print(child.ended(), "|", child.failure("x").log_tail)
    """
    *forks, owner = forked(code)
    said = r"has ended; process \d+ started it, and this process is a fork of that one \| ready"
    assert len(forks) == 3
    assert all(re.fullmatch(said, line) for line in forks)
    assert owner == "exited with code 7 | ready"


def test_locks_that_threads_held_at_the_fork_do_not_block_it():
    code = """
        child = sleeper()
        held, done = threading.Event(), threading.Event()

        def hold():
            with child._stopping, child._reading:
                held.set()
                done.wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()

        def work():
            assert child.ended() is None
            child.stop()
            child.failure("x")

        print(gone(in_a_fork(work)))
        done.set()
        child.stop()
    """
    assert forked(code) == ["True"]


def test_a_fork_waits_until_a_child_that_another_thread_starts_is_whole():
    """Otherwise it would hold ends of its pipes, and the child would wait for the end of its input."""
    code = """
        starting = threading.Event()

        class Slow(subprocess.Popen):
            def __init__(self, *args, **kwargs):
                starting.set()
                time.sleep(0.5)
                super().__init__(*args, **kwargs)

        process.subprocess.Popen = Slow
        made = []
        command = [sys.executable, "-c", "import sys, time; print(sys.stdin.read()); sys.exit(3)"]
        thread = threading.Thread(target=lambda: made.append(Child(command, stdin=b"input")))
        thread.start()
        starting.wait()
        pid = in_a_fork(lambda: time.sleep(20))
        thread.join()
        print(wait_until(made[0].ended), made[0].failure("x").log_tail)
        os.kill(pid, 9)
    """
    assert forked(code) == ["exited with code 3 input"]


def test_the_group_of_another_process_is_not_killed():
    """The id of a group is free, for another one to get, once the group has ended."""
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with started(python("import time; time.sleep(600)")) as child:
            child._supervisor.kill()
            assert wait_until(lambda: not exists(child.pid))
            child.pid = other.pid
            assert wait_until(child.ended) == "was killed together with its supervisor process"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_with_more_than_1024_descriptors():
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(open(os.devnull))
        with started(python("import sys; sys.exit(sys.stdin.read() != 'x')"), stdin=b"x") as child:
            assert wait_until(child.ended) == "exited with code 0"


# Startup.


def test_a_failed_startup_reports_exit_code_and_log():
    with (
        started(python("print('no GPU'); raise SystemExit(1)")) as child,
        pytest.raises(ServerStartError, match="the server exited with code 1 before it was ready") as caught,
        Startup(child, "the server", timeout=60) as startup,
    ):
        while True:
            time.sleep(startup.poll_delay())
    assert caught.value.log_tail == "no GPU"


def test_startup_has_a_time_limit():
    messages = []
    code = "import time; print('loading', flush=True); time.sleep(600)"
    with started(python(code)) as child:
        assert wait_until(lambda: child.last_line)
        with (
            pytest.raises(ServerStartError, match="the server was not ready after 0.5 s") as caught,
            Startup(child, "the server", timeout=0.5, on_progress=messages.append) as startup,
        ):
            while True:
                time.sleep(startup.poll_delay())
    assert caught.value.log_tail == "loading"
    assert messages[0] == "the server is starting, 0 s: loading"


def test_the_terminal_shows_one_line_and_cleans_up(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, started(python("import time; time.sleep(600)")) as child:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "30")
        child._log._add(b"a very long last line of the log")
        with Startup(child, "the server", timeout=60) as startup:
            startup.poll_delay()
            startup.poll_delay()
        monkeypatch.undo()
    shown = os.read(master, 1000).decode()
    os.close(master)
    assert shown == "\r\x1b[Kthe server is starting, 0 s:…\r\x1b[K"


def test_no_terminal_no_output(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with started(python("import time; time.sleep(600)")) as child, Startup(child, "x", timeout=60) as startup:
        startup.poll_delay()
    assert stream.getvalue() == ""
