"""Check that the socket which listens at a child server's address is the child's (Linux only)."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ..errors import ServerStartError
from .process import Child
from .supervisor import descendants

__all__ = ["Listener"]


class Listener:
    """The sockets that listen where the clients of a child server connect.

    Another process may listen there while the child loads or after it has ended, and would get what is meant
    for the child. This is known on Linux, where /proc shows the sockets of the child and its descendants.

    Args:
        host: Address or name to which clients connect.
        port: Port.

    Raises:
        ServerStartError: The name has no address.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ServerStartError(f"{host}:{port} cannot be connected to: {error}") from error
        self._addresses = {ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
        #: Sockets of the child: a descriptor's path in /proc, and the socket's name there.
        self._known: dict[str, str] = {}
        self._all_reach_it = False

    def belongs_to(self, child: Child) -> bool:
        """True if `child` or a descendant listens, or if that cannot be known; False if no process does.

        Raises:
            ServerStartError: Another process listens.
        """
        known = bool(self._known) and all(_target(path) == name for path, name in self._known.items())
        if known and self._all_reach_it:
            return True
        if not _is_supported():
            return True
        reached = [_listening(address, self._port) for address in self._addresses]
        sockets = {name for names in reached for name in names}
        if not sockets or child.ended() is not None:
            return False
        if known and sockets <= set(self._known.values()):
            return True
        own = _descriptors(descendants(child.supervisor_pid))
        if own is None:
            return True
        if not sockets <= own.keys():
            raise child.failure(
                f"port {self._port} of {self._host}: another process listens there, none that the server's "
                "command started; nothing was sent to it. Choose another server_port; for a server that runs "
                "elsewhere (a container), use LMDeployClient with its URL"
            )
        self._known = {own[name]: name for name in sockets}
        self._all_reach_it = all(reached)  # where no process listens, another one may begin to
        return True


def _listening(address: IPv4Address | IPv6Address, port: int) -> set[str]:
    """Names, such as 'socket:[4711]', of the sockets that accept connections to `address` and `port`."""
    if address.version == 6:
        return _table("tcp6", port, {_kernel_form(address.packed), "0" * 32})
    # A socket at an IPv6 address that accepts IPv4 as well is possible only where no IPv4 socket listens.
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    return _table("tcp", port, {_kernel_form(address.packed), "0" * 8}) or _table(
        "tcp6", port, {_kernel_form(mapped.packed), "0" * 32}
    )


def _table(name: str, port: int, addresses: set[str]) -> set[str]:
    try:
        text = Path("/proc/net", name).read_text(encoding="ascii")
    except OSError:  # no IPv6
        return set()
    # number, local address, remote address, state (0A: listening), queues, timer, retransmissions, user,
    # timeout, inode
    found = re.findall(rf"^ *\d+: (\w+):{port:04X} \S+ 0A \S+ \S+ \S+ +\d+ +\d+ (\d+)", text, re.MULTILINE)
    return {f"socket:[{inode}]" for address, inode in found if address in addresses}


def _kernel_form(packed: bytes) -> str:
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _descriptors(pids: Iterable[int]) -> dict[str, str] | None:
    """A path in /proc for everything that the processes `pids` hold open; None if that cannot be read."""
    found: dict[str, str] = {}
    for pid in pids:
        try:
            paths = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
        except PermissionError:  # a process of another user
            return None
        except OSError:  # it has exited since
            continue
        found.update((_target(path), path) for path in paths)
    return found


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@cache
def _is_supported() -> bool:
    """True if /proc shows a listening socket of this very process."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as own:
            name = _target(f"/proc/self/fd/{own.fileno()}")
            return _listening(IPv4Address("127.0.0.1"), own.getsockname()[1]) == {name} != {""}
    except OSError:
        return False
