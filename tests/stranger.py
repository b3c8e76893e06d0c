"""A server that is at a port where another one is expected."""

import contextlib
import json
import socket
import threading
import time


class Stranger:
    """Takes a port as soon as it is free, keeps what it gets, and answers as a server of the model `name`."""

    def __init__(self, host, port, name="m"):
        self.received = []
        answer = {
            "data": [{"id": name}],
            "choices": [{"message": {"content": "evil"}, "finish_reason": "stop"}],
        }
        body = json.dumps(answer).encode()
        self._answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        self._answer += body
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        end = time.monotonic() + 60
        while True:
            try:
                self._listener = socket.create_server((host, port), family=family)
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.01)
            else:
                break
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    if data := connection.recv(1 << 16):
                        self.received.append(data)
                        connection.sendall(self._answer)

    def close(self):
        self._listener.close()
