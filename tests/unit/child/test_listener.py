"""Whose socket listens at a child's address."""

import contextlib
import socket
import sys

import pytest

from lagent_llms import ServerStartError
from lagent_llms.child import listener as module
from lagent_llms.child.listener import Listener
from lagent_llms.child.ports import check_port
from lagent_llms.child.process import Child
from tests.waiting import wait_until

#: A server whose descendant, in a session of its own, listens at the address.
SERVER = """
import socket, subprocess, sys, time
listen = '''
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
both = sys.argv[3] == "both"
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, dualstack_ipv6=both):
    time.sleep(600)
'''
subprocess.run([sys.executable, "-c", listen, *sys.argv[1:]], start_new_session=True)
"""


@contextlib.contextmanager
def serving(*arguments):
    """A child that serves, without arguments one that does not."""
    command = [sys.executable, "-c", SERVER, *map(str, arguments)] if arguments else ["sleep", "600"]
    child = Child(command)
    try:
        yield child
    finally:
        child.stop()


def occupy(host, port, **kwargs):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, **kwargs)


@pytest.mark.parametrize(
    ("address", "host", "both"),
    [
        ("127.0.0.1", "127.0.0.1", ""),
        ("0.0.0.0", "127.0.0.1", ""),
        ("0.0.0.0", "127.0.0.2", ""),
        ("127.0.0.1", "localhost", ""),
        ("::1", "[::1]", ""),
        ("::", "::1", ""),
        ("::", "127.0.0.1", "both"),
    ],
)
def test_a_descendant_that_listens(address, host, both):
    port = check_port(address, 0)
    listener = Listener(host, port)
    with serving(address, port, both) as child, serving() as other:
        assert wait_until(lambda: listener.belongs_to(child))
        assert listener.belongs_to(child)
        with pytest.raises(ServerStartError, match=f"port {port} of .*: another process listens there"):
            Listener(host, port).belongs_to(other)
        child.stop()
        assert not listener.belongs_to(child)
        with occupy(address, port):
            assert not listener.belongs_to(child)  # it has ended: that is the cause to report


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
def test_another_process_that_listens(address, host):
    port = check_port("127.0.0.1", 0)
    listener = Listener(host, port)
    with serving() as child:
        assert not listener.belongs_to(child)
        with occupy(address, port), pytest.raises(ServerStartError, match=f"port {port} of {host}"):
            listener.belongs_to(child)
        assert not listener.belongs_to(child)


def test_a_second_address_of_the_name_is_taken_later():
    port = check_port("127.0.0.1", 0)
    listener = Listener("localhost", port)
    if len(listener._addresses) < 2:
        listener._addresses |= Listener("::1", port)._addresses  # the system's list of hosts decides
    with serving("127.0.0.1", port, "") as child:
        assert wait_until(lambda: listener.belongs_to(child))
        with occupy("::1", port), pytest.raises(ServerStartError, match=f"port {port} of localhost"):
            listener.belongs_to(child)
        assert listener.belongs_to(child)


def test_another_address_and_another_port_are_of_no_interest():
    port = check_port("127.0.0.1", 0)
    with serving() as child, occupy("127.0.0.2", port), occupy("127.0.0.1", 0):
        assert not Listener("127.0.0.1", port).belongs_to(child)


def test_a_socket_of_ipv6_alone_takes_nothing_from_ipv4():
    port = check_port("127.0.0.1", 0)
    with occupy("::", port), serving("0.0.0.0", port, "") as child:
        assert wait_until(lambda: not child.log_tail and _has_child_listening(child, port))


def _has_child_listening(child, port):
    try:
        return Listener("127.0.0.1", port).belongs_to(child)
    except ServerStartError:  # until the child listens
        return False


def test_where_the_sockets_cannot_be_read_nothing_is_refused(monkeypatch):
    port = check_port("127.0.0.1", 0)
    with serving() as child, occupy("127.0.0.1", port):
        monkeypatch.setattr(module, "_descriptors", lambda pids: None)  # processes of another user
        assert Listener("127.0.0.1", port).belongs_to(child)
        monkeypatch.setattr(module, "_is_supported", lambda: False)  # no /proc
        assert Listener("127.0.0.1", port).belongs_to(child)


def test_a_name_without_an_address():
    with pytest.raises(ServerStartError, match=r"no-such-host\.invalid:1 cannot be connected to"):
        Listener("no-such-host.invalid", 1)
