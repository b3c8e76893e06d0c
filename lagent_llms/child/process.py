"""A child server: start, progress, ready, watch, stop, and no orphan however this process ends.

The child runs under `lagent_llms.child.supervisor`, a small process that ends it on request, or when this
process is gone.
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

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
_LINE_END = re.compile(rb"[\r\n]+")
_LINES, _LINE_LENGTH, _RAW_LENGTH = 100, 2000, 1 << 16
_STARTED_WITHIN = 60.0


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced by ``***``."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


class Child:
    """A running server, and what it wrote last.

    Args:
        command: What to run.
        stdin: What it finds on its standard input, 64 KiB at most; no process list shows that.
        env: Variables set for it beside this process's own; None removes one.
        grace: Seconds it has to end after SIGTERM, before SIGKILL.
        secrets: Texts that must not show in its log.
        log_file: Also write all it says here (appended), secrets replaced; None keeps only the last lines.

    Attributes:
        pid: Its process id.

    Raises:
        ServerStartError: There is no such program, or no process could be made.
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
            raise ServerStartError(f"{command[0]}: there is no such program")
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
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), *arguments],
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
        weakref.finalize(self, _let_go, self._guard).atexit = False
        threading.Thread(
            target=self._log.follow, args=(self._guard,), name="child-server-log", daemon=True
        ).start()
        self.pid = self._first_status()

    @property
    def log_tail(self) -> str:
        """The last lines it wrote."""
        return self._log.tail()

    @property
    def last_line(self) -> str:
        """The last line it wrote, '' when there is none."""
        return self._log.last_line

    def ended(self) -> str | None:
        """How it ended ('exited with code 1', 'was killed by SIGKILL'), None while it runs."""
        with self._reading:
            if self._ended is None:
                self._read_status(1.0 if self._is_zombie() else 0.0)
            if self._ended is None and self._guard.poll() is not None:
                self._read_status(0.0)  # told between the two looks
                if self._ended is None:
                    self._kill_what_is_left()
                    self._ended = "was killed together with its guard process"
            return self._ended

    def failure(self, reason: str) -> ServerStartError:
        """The error that tells `reason` and the log's tail."""
        self._log.settle(self._guard.poll() is not None or self._ended is not None)
        return ServerStartError(reason, log_tail=self.log_tail)

    def stop(self) -> None:
        """End it and everything it started; returns when all of it is gone. Once is enough."""
        if os.getpid() != self._owner:  # a fork of the owner: not its child
            return
        with self._stopping:
            self.let_go()
            try:
                self._guard.wait(self._grace + 10)
            except subprocess.TimeoutExpired:
                self._guard.kill()
                self._guard.wait()
            self.ended()
            self._log.settle(True)
            _children.discard(self)

    def let_go(self) -> None:
        """Ask for its end without waiting for it."""
        _let_go(self._guard)

    def _is_zombie(self) -> bool:
        """Whether it has ended, and the guard is about to tell so (seen on Linux only)."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return False

    def _first_status(self) -> int:
        words = self._read_status(_STARTED_WITHIN)
        if len(words) == 2 and words[0] == "started":
            return int(words[1])
        self.stop()
        raise self.failure("no guard process could be started")

    def _read_status(self, seconds: float) -> list[str]:
        """The words of the next status line, [] when there is none within `seconds`."""
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

    def _kill_what_is_left(self) -> None:
        """The guard was killed: the kernel has killed the child, its own group is left to us."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class _Log:
    """The last lines a child wrote."""

    def __init__(self, secrets: tuple[str, ...], log_file: str | os.PathLike[str] | None) -> None:
        self._secrets = secrets
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._complete = threading.Event()
        self._file = None if log_file is None else Path(log_file).open("a", encoding="utf-8")  # noqa: SIM115
        self.last_line = ""

    def follow(self, guard: subprocess.Popen[bytes]) -> None:
        """Read until the child and all it started are gone."""
        assert guard.stdout is not None
        rest = b""
        with guard.stdout as stream, contextlib.suppress(OSError, ValueError):
            while data := stream.read(_RAW_LENGTH):
                *lines, rest = _LINE_END.split(rest + data)
                rest = rest[:_RAW_LENGTH]  # the end of an endless line is never shown
                for line in lines:
                    self._add(line)
        self._add(rest)
        self._complete.set()
        if self._file is not None:
            self._file.close()
        guard.wait()  # no zombie, even if nobody asks any more

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

    def settle(self, ended: bool) -> None:
        """Wait until all that was written has been read, if the child has ended."""
        if ended:
            self._complete.wait(5)


def _let_go(guard: subprocess.Popen[bytes]) -> None:
    if guard.stdin is not None:
        with contextlib.suppress(OSError):
            guard.stdin.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_children: weakref.WeakSet[Child] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    children = [child for child in _children if child._owner == os.getpid()]
    for child in children:
        child.let_go()
    for child in children:
        child.stop()


def _after_fork_in_child() -> None:
    for child in list(_children):
        child.let_go()  # only this copy of the pipe: the owner's end is seen by the guard again
    _children.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
