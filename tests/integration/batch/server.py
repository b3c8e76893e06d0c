"""A fast server for batches: it answers each prompt with a text made of it. Prints its port.

Args:
    Seconds from a request to its answer, 0 without one.
"""

import asyncio
import collections
import contextlib
import json
import sys
import threading


class Slots:
    """Places for requests at one server; further requests wait, or are refused.

    Attributes:
        open: Requests that have no answer yet.
        most: The most of them so far, those that are refused left out.
        served, refused: Numbers of requests.
    """

    def __init__(self, count, delay, *, refuses=False):
        self.count, self.delay, self.refuses = count, delay, refuses
        self.open = self.most = self.served = self.refused = 0
        self._waiting = collections.deque()

    def accept(self, connection, body):
        if self.open >= self.count and self.refuses:
            self.refused += 1
            connection.respond(429, {"error": {"message": "no slot is free"}})
            return
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open > self.count:
            self._waiting.append((connection, body))
        else:
            self._start(connection, body)

    def _start(self, connection, body):
        asyncio.get_running_loop().call_later(self.delay, self._end, connection, body)

    def _end(self, connection, body):
        self.open -= 1
        self.served += 1
        connection.answer(body)
        if self._waiting:
            self._start(*self._waiting.popleft())


@contextlib.contextmanager
def serving(slots):
    """Run a server with `slots` in a thread; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen():
        return await loop.create_server(lambda: Connection(slots.delay, slots), "127.0.0.1", 0, backlog=1000)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Connection(asyncio.Protocol):
    def __init__(self, delay, slots=None):
        self.delay = delay
        self.slots = slots

    def connection_made(self, transport):
        self.transport = transport
        self.data = b""

    def data_received(self, data):
        self.data += data
        while True:
            head, found, rest = self.data.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            if self.slots:
                self.slots.accept(self, body)
            elif self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer, body)
            else:
                self.answer(body)

    def answer(self, body):
        body = json.loads(body)
        self.respond(200, {"id": "1", "created": 0, "model": "m", **answer_to(body)})

    def respond(self, status, item):
        answer = json.dumps(item).encode()
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        )
        self.transport.write(head.encode() + answer)


def answer_to(body):
    choice = {"index": 0, "finish_reason": "stop"}
    if "prompt" in body:
        return {
            "object": "text_completion",
            "choices": [{**choice, "text": f"answer to {body['prompt']}"}],
        }
    message = {"role": "assistant", "content": f"answer to {body['messages'][-1]['content']}"}
    return {"object": "chat.completion", "choices": [{**choice, "message": message}]}


async def main(delay):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if sys.argv[1:] else 0.0))
