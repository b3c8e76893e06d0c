"""Start, watch and stop a server as a child process, without orphans however this process ends.

The child runs under `lagent_llms.child.supervisor`, a small process that stops it on request or when this
process exits. A fork of this process may use the server; it cannot stop it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path

from ..errors import ServerStartError
from .interpreter import find_python
from .log import Log
from .supervisor import processes

__all__ = ["Child"]

_SUPERVISOR_SCRIPT = Path(__file__).with_name("supervisor.py")
_START_TIMEOUT = 60.0

#: Held while a child starts, and by `os.fork`: a fork gets the pipes of a whole child, which it then closes.
_starting = threading.RLock()


class Child:
    """A running server process and the last lines of its log.

    Args:
        command: Program and arguments.
        stdin: Bytes for the child's standard input, at most 64 KiB; no process list shows them.
        env: Environment variables to set on top of this process's own; None as a value removes one.
        grace: Seconds between SIGTERM and SIGKILL when the child is stopped.
        secrets: Texts to replace by ``***`` in the log.
        log_file: File to append the whole log to, secrets replaced; None (default) keeps only the last lines.

    Attributes:
        pid: Process id of the child.

    Raises:
        ServerStartError: The program does not exist, or no process could be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str | None] | None = None,
        grace: float = 5.0,
        secrets: Iterable[str] = (),
        log_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if os.name != "posix":
            raise ServerStartError("a child server needs a POSIX system (Linux, macOS)")
        if shutil.which(command[0]) is None:
            raise ServerStartError(f"{command[0]}: no such program")
        python = find_python()
        self._grace = grace
        self._owner = os.getpid()
        self._stopping, self._reading = threading.RLock(), threading.RLock()
        self._ended: str | None = None
        self.pid = 0
        try:
            self._log = Log(secrets, log_file)
            self._start(python, command, stdin, env or {})
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            raise ServerStartError(f"{command[0]} cannot be started: {error}") from error
        self._read_first_status(python, command[0])

    def _start(
        self, python: str, command: Sequence[str], stdin: bytes, env: Mapping[str, str | None]
    ) -> None:
        """Start the thread that reads the log, then the supervisor process."""
        with _starting, contextlib.ExitStack() as passed:
            (self._status, status), (stop, self._stop_pipe), (log, output), (feed, feeder) = (
                _pipe() for _ in range(4)
            )
            for end in (status, stop, output, feed, feeder):
                passed.enter_context(end)
            feeder.write(stdin)
            feeder.close()
            thread = threading.Thread(
                target=self._log.follow, args=(log,), name="child-server-log", daemon=True
            )
            thread.start()
            numbers = (status.fileno(), feed.fileno())
            arguments = [os.getpid(), self._grace, *numbers, *command]
            merged = {**os.environ, **env}
            self._supervisor = subprocess.Popen(
                [python, "-I", "-S", str(_SUPERVISOR_SCRIPT), *map(str, arguments)],
                stdin=stop,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in merged.items() if value is not None},
                pass_fds=numbers,
                start_new_session=True,
            )
            self._log.at_end = self._supervisor.wait  # reaps it even if the owner never calls ended() again
            _children.add(self)
            for pipe in (self._status, self._stop_pipe):
                weakref.finalize(self, pipe.close).atexit = False

    @property
    def is_owner(self) -> bool:
        """True in the process that started the child, False in a fork of it, which can only use the child."""
        return os.getpid() == self._owner

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor: on Linux, its descendants are the child and all that it started."""
        return self._supervisor.pid

    @property
    def log_tail(self) -> str:
        """The last lines of the log (at most 100)."""
        return self._log.tail()

    @property
    def last_line(self) -> str:
        """The last line of the log, '' if it is empty."""
        return self._log.last_line

    def ended(self) -> str | None:
        """How the child ended ('exited with code 1', 'was killed by SIGKILL'), None while it runs."""
        if not self.is_owner:  # the status lines, and the exit of the supervisor, are the owner's to read
            if self._ended is None and _poll(self._status, 0) & select.POLLHUP:
                return f"has ended; process {self._owner} started it, and this process is a fork of that one"
            return self._ended
        with self._reading:
            if self._ended is None:
                self._read_status(1.0 if self._is_zombie() else 0.0)
            if self._ended is None and self._supervisor.poll() is not None:
                self._read_status(0.0)  # written between the read and the poll
                if self._ended is None:
                    self._kill_process_group()
                    self._ended = "was killed together with its supervisor process"
            return self._ended

    def failure(self, reason: str) -> ServerStartError:
        """Make the error for `reason`, with the last lines of the log."""
        if self.is_owner and (self._ended is not None or self._supervisor.poll() is not None):
            self._log.wait_complete()
        return ServerStartError(reason, log_tail=self.log_tail)

    def stop(self) -> None:
        """Stop the child and all its descendants, and wait until they are gone. No effect in a fork."""
        if not self.is_owner:
            return
        with self._stopping:
            self.request_stop()
            try:
                self._supervisor.wait(self._grace + 10)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
            self.ended()
            self._log.wait_complete()
            _children.discard(self)

    def request_stop(self) -> None:
        """Start stopping the child without waiting for it; no effect in a fork."""
        self._stop_pipe.close()  # a fork has a copy of it

    def _is_zombie(self) -> bool:
        """True if the child has exited and its supervisor has not reported it yet (Linux only)."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return False

    def _read_first_status(self, python: str, program: str) -> None:
        words = self._read_status(_START_TIMEOUT)
        if len(words) == 2 and words[0] == "started":
            self.pid = int(words[1])
            return
        self.stop()
        if words[:1] == ["failed"]:
            raise self.failure(f"{program} cannot be started: {' '.join(words[1:])}")
        raise self.failure(
            f"{program} cannot be started: its supervisor process, run by {python} (sys.executable is "
            f"{sys.executable!r}), ended with code {self._supervisor.returncode} before it started it"
        )

    def _read_status(self, seconds: float) -> list[str]:
        """Words of the next status line, [] if none arrives within `seconds`."""
        if not _poll(self._status, seconds, select.POLLIN):
            return []
        line = b""
        while not line.endswith(b"\n") and (byte := self._status.read(1)):
            line += byte
        words = line.decode().split()
        if words[:1] == ["exited"]:
            self._ended = f"exited with code {words[1]}"
        elif words[:1] == ["killed"]:
            self._ended = f"was killed by {_signal_name(int(words[1]))}"
        return words

    def _kill_process_group(self) -> None:
        """Kill the rest of the child's process group: without a supervisor, the kernel kills only the child.

        The id may meanwhile be another group's: ours is in the session that the supervisor made.
        """
        ours = (self.pid, self._supervisor.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "linux":
                found = any((group, session) == ours for _, group, session in processes().values())
            else:
                found = bool(self.pid) and os.getsid(self.pid) == self._supervisor.pid
            if found:
                os.killpg(self.pid, signal.SIGKILL)


def _pipe() -> tuple[FileIO, FileIO]:
    """Make a pipe with numbers above 2: code may write to standard streams although they are closed."""
    import fcntl

    ends = os.pipe()
    try:
        reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return FileIO(reader, "r"), FileIO(writer, "w")


def _poll(file: FileIO, seconds: float, events: int = 0) -> int:
    """The events of `file` after at most `seconds`: `events` and `select.POLLHUP`; 0 for none."""
    poll = select.poll()
    poll.register(file, events)
    return sum(event for _, event in poll.poll(seconds * 1000))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_children: weakref.WeakSet[Child] = weakref.WeakSet()


@atexit.register
def _stop_children_at_exit() -> None:
    children = [child for child in _children if child.is_owner]
    for child in children:
        child.request_stop()
    for child in children:
        child.stop()


def _after_fork_in_child() -> None:
    _starting.release()
    for child in list(_children):
        child.request_stop()  # closes this copy of the pipe; the supervisor then sees the owner's alone
    _children.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_after_fork_in_child
    )
