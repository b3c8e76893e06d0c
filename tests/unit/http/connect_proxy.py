"""A CONNECT proxy whose tunnels all lead to one server, whatever host is requested."""

import contextlib
import socket
import threading


class ConnectProxy:
    """CONNECT proxy with one thread for each direction of a tunnel.

    Args:
        port: Local port that the tunnels lead to.
        status: Status of the response to CONNECT; only 200 opens a tunnel.
        tls: The `ssl.SSLContext` of a TLS proxy; None for plain HTTP.

    Attributes:
        heads: The heads of the received requests, as text.
    """

    def __init__(self, port, status=200, tls=None):
        self.heads = []
        self._port = port
        self._status = status
        self._tls = tls
        self._sockets = []
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, target, *args):
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._start(self._serve, sock)

    def _serve(self, sock):
        self._sockets.append(sock)
        head = b""
        with contextlib.suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            while b"\r\n\r\n" not in head:
                if not (more := sock.recv(1000)):
                    return
                head += more
            self.heads.append(head.decode())
            sock.sendall(b"HTTP/1.1 %d X\r\n\r\n" % self._status)
            if self._status != 200:
                sock.close()
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets.append(server)
            self._start(_pass_on, server, sock)
            _pass_on(sock, server)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # no thread may use a closed, reused file descriptor
            thread.join(10)
        for sock in [self._listener, *self._sockets]:
            sock.close()


def _pass_on(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
