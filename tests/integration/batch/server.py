"""A fast server for batches: it answers each prompt with a text made of it. Prints its port.

Args:
    Seconds from a request to its answer, 0 without one.
"""

import asyncio
import json
import sys


class Connection(asyncio.Protocol):
    def __init__(self, delay):
        self.delay = delay

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
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer, body)
            else:
                self.answer(body)

    def answer(self, body):
        body = json.loads(body)
        answer = json.dumps({"id": "1", "created": 0, "model": "m", **answer_to(body)}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
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
