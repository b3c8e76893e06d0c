"""An HTTP server for faults that real servers do not produce on demand: cuts, split bytes, silence."""

import contextlib
import json
import socket
import threading


class Connection:
    """One client's connection, with the request it sent.

    Attributes:
        path, headers, body: The request; the body is decoded from JSON.
        gone: Whether the client has closed the connection; see `wait_gone`.
    """

    def __init__(self, sock, head, body):
        self.sock = sock
        lines = head.decode().split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        self.body = json.loads(body) if body else None

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def head(self, status=200, content_type="text/event-stream", **headers):
        fields = {"Content_Type": content_type, "Transfer_Encoding": "chunked", **headers}
        fields = {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
        self.send(
            f"HTTP/1.1 {status} X\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            + "\r\n"
        )

    def chunk(self, data=b""):
        """Send one chunk of a chunked body; without data, the last chunk."""
        data = data if isinstance(data, bytes) else data.encode()
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, item):
        self.chunk(f"data: {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}\n\n")

    def text(self, text, finish_reason=None):
        self.event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})

    def answer(self, *texts):
        """Send a complete streamed answer."""
        self.head()
        for text in texts:
            self.text(text)
        self.text("", "stop")
        usage = {"prompt_tokens": 3, "completion_tokens": len(texts), "total_tokens": 3 + len(texts)}
        self.event({"choices": [], "usage": usage})
        self.event("[DONE]")
        self.chunk()

    def json(self, item, status=200, **headers):
        data = json.dumps(item).encode()
        fields = {"Transfer_Encoding": None, "Content_Length": len(data), **headers}
        self.head(status, "application/json", **fields)
        self.send(data)

    def wait_gone(self, seconds=5):
        """Wait for at most `seconds`; return whether the client has closed the connection."""
        try:
            self.sock.settimeout(seconds)
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def reset(self):
        """Reset the connection (RST)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class ScriptedServer:
    """Calls ``script(connection)`` for each request, in a thread of its own.

    Args:
        script: Called with the `Connection` of each request; sends the response.
        tls: An `ssl.SSLContext` for https; None for http.

    Attributes:
        requests: Every request so far.
        connections: Number of accepted connections.
    """

    def __init__(self, script, tls=None):
        self.script = script
        self.tls = tls
        self.requests = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock):
        try:
            with contextlib.suppress(OSError):
                if self.tls:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                    self._sockets.append(sock)
                while self._answer(sock):
                    pass
        finally:
            sock.close()

    def _answer(self, sock):
        """Answer one request; False at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(65536)):
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while lengths and len(body) < int(lengths[0]):
            if not (more := sock.recv(65536)):
                return False
            body += more
        connection = Connection(sock, head, body)
        self.requests.append(connection)
        self.script(connection)
        return True

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        # Each thread closes its own socket: OpenSSL would write its last alert to a descriptor that was
        # closed here and belongs to another connection by then.
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def free_port():
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def slowly(send, data, size=1):
    """Send `data` in pieces of `size` bytes."""
    data = data if isinstance(data, bytes) else data.encode()
    for start in range(0, len(data), size):
        send(data[start : start + size])
