"""Start, watch and stop a server as a child process, without orphans however this process ends.

The child runs under `lagent_llms.child.supervisor`, a small process that stops it on request or when this
process exits.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import ServerStartError

__all__ = ["Child", "redact"]

_SUPERVISOR_SCRIPT = Path(__file__).with_name("supervisor.py")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
_LINE_END = re.compile(rb"[\r\n]+")
_LINES, _LINE_LENGTH, _RAW_LENGTH = 100, 2000, 1 << 16
_START_TIMEOUT = 60.0


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced by ``***``."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


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
        self._grace = grace
        self._log = _Log(tuple(secrets), log_file)
        self._owner = os.getpid()
        self._stopping, self._reading = threading.Lock(), threading.Lock()
        self._ended: str | None = None
        self.pid = 0
        self._status, status = os.pipe()
        feed, feeder = os.pipe()
        os.write(feeder, stdin)
        os.close(feeder)
        merged = {**os.environ, **(env or {})}
        arguments = [str(os.getpid()), str(grace), str(status), str(feed), *command]
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR_SCRIPT), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in merged.items() if value is not None},
                pass_fds=(status, feed),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            os.close(self._status)
            raise ServerStartError(f"{command[0]} cannot be started: {error}") from error
        finally:
            os.close(status)
            os.close(feed)
        _children.add(self)
        weakref.finalize(self, os.close, self._status).atexit = False
        weakref.finalize(self, _request_stop, self._supervisor).atexit = False
        threading.Thread(
            target=self._log.follow, args=(self._supervisor,), name="child-server-log", daemon=True
        ).start()
        self.pid = self._first_status()

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
        if self._supervisor.poll() is not None or self._ended is not None:
            self._log.wait_complete()
        return ServerStartError(reason, log_tail=self.log_tail)

    def stop(self) -> None:
        """Stop the child and all its descendants, and wait until they are gone. Idempotent."""
        if os.getpid() != self._owner:  # a fork of the owner: not its child
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
        """Start stopping the child without waiting for it."""
        _request_stop(self._supervisor)

    def _is_zombie(self) -> bool:
        """True if the child has exited and its supervisor has not reported it yet (Linux only)."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return False

    def _first_status(self) -> int:
        words = self._read_status(_START_TIMEOUT)
        if len(words) == 2 and words[0] == "started":
            return int(words[1])
        self.stop()
        raise self.failure("the supervisor process could not be started")

    def _read_status(self, seconds: float) -> list[str]:
        """Words of the next status line, [] if none arrives within `seconds`."""
        if not select.select([self._status], [], [], seconds)[0]:
            return []
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._status, 1)):
            line += byte
        words = line.decode().split()
        if words[:1] == ["exited"]:
            self._ended = f"exited with code {words[1]}"
        elif words[:1] == ["killed"]:
            self._ended = f"was killed by {_signal_name(int(words[1]))}"
        return words

    def _kill_process_group(self) -> None:
        """Kill the child's process group; without a supervisor, the kernel killed only the child itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class _Log:
    """The last lines of a child's output."""

    def __init__(self, secrets: tuple[str, ...], log_file: str | os.PathLike[str] | None) -> None:
        self._secrets = secrets
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._complete = threading.Event()
        self._file = None if log_file is None else Path(log_file).open("a", encoding="utf-8")  # noqa: SIM115
        self.last_line = ""

    def follow(self, supervisor: subprocess.Popen[bytes]) -> None:
        """Read the output until the child and all its descendants have exited."""
        assert supervisor.stdout is not None
        rest = b""
        with supervisor.stdout as stream, contextlib.suppress(OSError, ValueError):
            while data := stream.read(_RAW_LENGTH):
                *lines, rest = _LINE_END.split(rest + data)
                rest = rest[:_RAW_LENGTH]  # bounds a line without end
                for line in lines:
                    self._add(line)
        self._add(rest)
        self._complete.set()
        if self._file is not None:
            self._file.close()
        supervisor.wait()  # reaps it even if the owner never calls ended() again

    def _add(self, raw: bytes) -> None:
        line = redact(_ESCAPES.sub("", raw.decode(errors="replace")), self._secrets).rstrip()
        if not line:
            return
        self._lines.append(line[:_LINE_LENGTH])
        self.last_line = line[:_LINE_LENGTH]
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def tail(self) -> str:
        return "\n".join(self._lines)

    def wait_complete(self) -> None:
        """Wait until an ended child's output has been read, at most 5 seconds."""
        self._complete.wait(5)


def _request_stop(supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.stdin is not None:
        with contextlib.suppress(OSError):
            supervisor.stdin.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_children: weakref.WeakSet[Child] = weakref.WeakSet()


@atexit.register
def _stop_children_at_exit() -> None:
    children = [child for child in _children if child._owner == os.getpid()]
    for child in children:
        child.request_stop()
    for child in children:
        child.stop()


def _after_fork_in_child() -> None:
    for child in list(_children):
        child.request_stop()  # closes this copy of the pipe; the supervisor then sees the owner's alone
    _children.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
