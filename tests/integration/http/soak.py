"""10,000 streamed requests, 1,000 in flight, from forks of two clients: two with threads, two with tasks.

Prints a line of JSON for each fork: wrong answers; memory and file descriptors at half time and at the end.
"""

import asyncio
import json
import multiprocessing
import os
import resource
from concurrent.futures import ThreadPoolExecutor

from lagent_llms import AsyncLMDeployClient, LMDeployClient
from lagent_llms.params import Timeout

FORKS, AT_ONCE, REQUESTS = 4, 250, 2500
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Echoes each prompt, five characters at a time, once `in_flight` requests have arrived."""

    def __init__(self, in_flight):
        self._in_flight, self.most, self._now = in_flight, 0, 0
        self._all_arrived = asyncio.Event()

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await self._answer(json.loads(await reader.readexactly(length))["prompt"], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, prompt, writer):
        if prompt != "warm":
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now == self._in_flight:
                self._all_arrived.set()
            await self._all_arrived.wait()
            self._now -= 1
        words = [{"choices": [{"text": prompt[at : at + 5]}]} for at in range(0, len(prompt), 5)]
        for event in [*words, {"choices": [{"text": "", "finish_reason": "stop"}]}, None]:
            data = b"data: " + (b"[DONE]" if event is None else json.dumps(event).encode()) + b"\n\n"
            writer.write((HEAD if event is words[0] else b"") + b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


def run_server(pipe):
    async def main():
        server = Server(FORKS * AT_ONCE)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=4096, limit=1 << 20)
        pipe.send(listening.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        pipe.send(server.most)

    asyncio.run(main())


def state():
    """Return the resident memory in KiB and the number of open file descriptors."""
    pages = int(open("/proc/self/statm").read().split()[1])  # noqa: SIM115
    return pages * resource.getpagesize() >> 10, len(os.listdir("/proc/self/fd"))


def check(fork, number, answer, found):
    if answer != prompt(fork, number):
        found["wrong"].append([number, str(answer)])
    found["seen"] += 1
    if found["seen"] == REQUESTS // 2:
        found["half"] = state()


def prompt(fork, number):
    return f"question {number} of fork {fork}"


def run_threads(llm, fork, found):
    def one(number):
        try:
            answer = llm.generate(prompt(fork, number))
        except Exception as error:
            answer = repr(error)
        check(fork, number, answer, found)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, range(REQUESTS)))
        found["end"] = state()


def run_tasks(llm, fork, found):
    async def main():
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(number):
            async with limit:
                try:
                    answer = await llm.generate(prompt(fork, number))
                except Exception as error:
                    answer = repr(error)
                check(fork, number, answer, found)

        await asyncio.gather(*map(one, range(REQUESTS)))
        found["end"] = state()

    asyncio.run(main())


def main():
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=run_server, args=(theirs,))
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    patient = Timeout(connect=300, first_token=300, idle=300)  # one core may serve all of it
    sync, aio = (
        cls(url, "m", timeout=patient, max_retries=0) for cls in (LMDeployClient, AsyncLMDeployClient)
    )
    assert sync.generate("warm") == asyncio.run(aio.generate("warm")) == "warm"
    forks = []
    for fork in range(FORKS):
        if (pid := os.fork()) == 0:
            found = {"wrong": [], "seen": 0}
            run_tasks(aio, fork, found) if fork % 2 else run_threads(sync, fork, found)
            os.write(1, json.dumps(found).encode() + b"\n")
            os._exit(0)
        forks.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in forks]
    assert sync.generate("warm") == "warm"
    ours.send(None)
    print(json.dumps({"most": ours.recv(), "statuses": statuses}))
    server.join()


if __name__ == "__main__":
    main()
