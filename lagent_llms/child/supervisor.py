"""Run a command and kill it, with all its descendants, when the parent process exits or requests it.

`lagent_llms.child.process` runs this file as a script; it uses the standard library only::

    python supervisor.py PARENT GRACE STATUS_FD INPUT_FD COMMAND…

Standard input is a pipe that the process PARENT holds open. It reaches end of file when PARENT closes it or
exits for any reason. The command then gets SIGTERM, and after GRACE seconds it and all its descendants get
SIGKILL; on Linux this process is a subreaper, so the command's orphans stay its descendants. If this process
is killed, the kernel kills the command (PR_SET_PDEATHSIG, Linux only).

Status lines on STATUS_FD: ``started PID``, then ``exited CODE`` or ``killed SIGNAL``; ``failed REASON`` if no
process can be made for the command. INPUT_FD becomes the command's standard input.
"""

import contextlib
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def processes() -> dict[int, tuple[int, int, int]]:
    """Parent, process group and session of every process that is no zombie (empty unless on Linux)."""
    found = {}
    for entry in os.listdir("/proc") if _LINUX else ():
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent, group, session = file.read().rpartition(")")[2].split()[:4]
            except OSError:  # the process has exited since
                continue
            if state != "Z":
                found[int(entry)] = (int(parent), int(group), int(session))
    return found


def descendants(root: int) -> list[int]:
    """Process ids of all descendants of the process `root`, without zombies (empty unless on Linux)."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in processes().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class _Supervisor:
    def __init__(self, parent: int, grace: float, status_fd: int, input_fd: int, command: list[str]) -> None:
        self._parent, self._grace, self._status_fd = parent, grace, status_fd
        os.set_inheritable(status_fd, False)
        self._stop_requested = False
        self._running = True
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._child = self._start(command, input_fd)
        except OSError as error:  # fork: the limit of processes, or no memory
            self._report(f"failed {error.strerror}")
            sys.exit(1)
        os.close(input_fd)
        self._report(f"started {self._child}")

    def _on_sigterm(self, *_: object) -> None:
        self._stop_requested = True

    def _report(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the parent has closed its end
            os.write(self._status_fd, f"{line}\n".encode())

    def _start(self, command: list[str], input_fd: int) -> int:
        supervisor = os.getpid()
        # Blocked until the child has restored its handlers, so that no signal is lost in between.
        handled = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            with contextlib.suppress(OSError):
                os.setpgid(child, child)
            return child
        try:
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)
            for number in handled:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            os.dup2(input_fd, 0)
            os.close(input_fd)
            os.execvp(command[0], command)
        except BaseException as error:  # noqa: BLE001  (a forked child must never return)
            os.write(2, f"cannot run {command[0]}: {error}\n".encode())
        os._exit(127)

    def run(self) -> None:
        """Wait until the command exits or must be stopped, then kill what is left."""
        while self._running and not self._should_stop(1.0):
            self._reap()
        end = time.monotonic() + self._grace
        if self._running:
            self._kill_child(signal.SIGTERM)
        while self._running and time.monotonic() < end:
            self._wait(end - time.monotonic())
            self._reap()
        self._kill_everything()

    def _should_stop(self, seconds: float) -> bool:
        ready = self._wait(seconds)
        # getppid: a process forked from the parent may hold the pipe open after the parent has exited.
        return self._stop_requested or 0 in ready or os.getppid() != self._parent

    def _wait(self, seconds: float) -> list[int]:
        watched = [self._wakeup] if self._stop_requested else [0, self._wakeup]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if 0 in ready:
            self._stop_requested = True
        return ready

    def _reap(self) -> bool:
        """Reap every child that has exited; False if no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._running = False
                if os.WIFSIGNALED(status):
                    self._report(f"killed {os.WTERMSIG(status)}")
                else:
                    self._report(f"exited {os.WEXITSTATUS(status)}")

    def _kill_child(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._child, number)

    def _kill_everything(self) -> None:
        if self._running or not _LINUX:  # else the group may have ended, and its id be another group's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
        while True:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not self._reap():
                return
            time.sleep(0.01)


if __name__ == "__main__":
    _parent, _grace, _status_fd, _input_fd, *_command = sys.argv[1:]
    _Supervisor(int(_parent), float(_grace), int(_status_fd), int(_input_fd), _command).run()
