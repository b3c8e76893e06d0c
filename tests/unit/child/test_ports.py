"""Ports: free, in use, and the address for connections to the own host."""

import pytest

from lagent_llms import ServerStartError
from lagent_llms.child.ports import check_free, check_port, connect_host


def test_ports():
    port = check_port("127.0.0.1", 0)
    check_free("127.0.0.1", port)
    assert check_port("127.0.0.1", 23333) == 23333
    assert [connect_host(name) for name in ("0.0.0.0", "::", "::1", "myhost")] == [
        "127.0.0.1", "[::1]", "[::1]", "myhost",
    ]  # fmt: skip
    with pytest.raises(ServerStartError, match="cannot be listened on"):
        check_free("203.0.113.1", 1)
