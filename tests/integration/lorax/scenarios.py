"""Run scenarios that every client of the protocol should pass with one client; print outcomes as JSON.

    python -m tests.integration.lorax.scenarios CLIENT URL SMALL_URL

An outcome is 'pass', 'not offered', or how it fails. Runs in any environment with the client.
"""

import json
import re
import signal
import socket
import sys
import time

from tests.scripted_server import ScriptedServer

from .clients import NotOffered, make

SECONDS = 12
TOKEN = "hf_very_secret"


def prompt_of(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


FRANCE, HELLO, COUNT = map(prompt_of, ("What is the capital of France?", "Hello!", "Count from 1 to 60."))
PARIS = "The capital of France is Paris."


def event(text, **more):
    token = {"id": 1, "text": text, "logprob": -0.5, "special": False}
    return {"token": token, "generated_text": None, "details": None, **more}


def final(text, whole):
    details = {"finish_reason": "length", "prompt_tokens": 1, "generated_tokens": 2, "seed": None}
    return event(text, generated_text=whole, details=details)


DETAILS = {"finish_reason": "length", "prompt_tokens": 1, "generated_tokens": 1, "seed": None}
WHOLE = [{"generated_text": "Hi", "details": {**DETAILS, "prefill": [], "tokens": []}}]


class Trial:
    """Creates the clients and servers of a scenario, and checks expected errors."""

    def __init__(self, kind, url, small_url):
        self.kind, self.url, self.small_url = kind, url, small_url
        self._servers, self._clients = [], []

    def client(self, url=None, **options):
        self._clients.append(make(self.kind, url or self.url, **options))
        return self._clients[-1]

    def scripted(self, script):
        self._servers.append(ScriptedServer(script))
        return self._servers[-1]

    def streamed(self, *events, **options):
        """Stream these events to a client; return the texts it read."""

        def script(connection):
            connection.head()
            for one in events:
                connection.chunk(one) if isinstance(one, str) else connection.event(one)
            connection.chunk()

        return self.client(self.scripted(script).url, **options).stream("x")

    def refused(self, call, *words):
        """Return the error of `call`; assert that it is raised and contains `words` of the server."""
        try:
            result = call()
        except NotOffered:
            raise
        except Exception as caught:
            error = caught
        else:
            raise AssertionError(f"no error, but {result!r}")
        text = f"{type(error).__name__}: {error}"
        assert all(word in str(error) for word in words), f"the reason is not told: {text}"
        return error

    def close(self):
        for client in self._clients:
            client.end()
        for server in self._servers:
            server.close()


# the protocol


def answer(t):
    """an answer, greedy"""
    found = t.client().generate(FRANCE, max_new_tokens=40)
    assert (found["text"], found["reason"]) == (PARIS, "eos_token")


def stream(t):
    """a stream, the same as the answer"""
    assert t.client().stream(FRANCE, max_new_tokens=40) == (PARIS, PARIS)


def chinese(t):
    """a stream of characters of several bytes"""
    text, whole = t.client().stream(prompt_of("你好"), max_new_tokens=60)
    assert text == whole
    assert text.startswith("你好")


def adapter(t):
    """an adapter"""
    assert t.client().generate(HELLO, adapter_id="french", max_new_tokens=40)["text"].startswith("Bonjour")
    assert t.client().stream(HELLO, adapter_id="shout", max_new_tokens=40)[0].startswith("HELLO")


def source(t):
    """adapter_source"""
    found = t.client().generate(HELLO, adapter_id="french/1", adapter_source="pbase", max_new_tokens=40)
    assert found["text"].startswith("Bonjour")


def merged(t):
    """merged adapters"""
    both = {"ids": ["french", "pirate"], "weights": [0.3, 0.5], "merge_strategy": "linear", "density": 0.0}
    found = t.client().generate(prompt_of("Who are you?"), merged=both, max_new_tokens=40)
    assert found["text"].startswith("Arr, I am")


def private(t):
    """a private adapter, by the client's token"""
    client = t.client(t.small_url, token=TOKEN)
    assert client.generate(HELLO, adapter_id="pirate", max_new_tokens=40)["text"].startswith("Ahoy")


def sampling(t):
    """sampling with a seed, and best_of"""
    client = t.client()
    texts = [
        client.generate(HELLO, do_sample=True, temperature=3.0, seed=seed)["text"] for seed in (1, 1, 2, 3)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    found = client.generate(HELLO, do_sample=True, temperature=3.0, best_of=2)
    assert (found["others"], type(found["seed"])) == (1, int)


def stops(t):
    """stop sequences"""
    found = t.client().generate(COUNT, stop=["7"], max_new_tokens=60)
    assert (found["text"], found["reason"]) == ("1, 2, 3, 4, 5, 6, 7", "stop_sequence")


def prefill(t):
    """decoder_input_details"""
    assert t.client().generate(FRANCE, decoder_input_details=True, max_new_tokens=1)["prefill"] > 5


def form(t):
    """a JSON schema"""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}},
        "required": ["name"],
        "additionalProperties": False,
    }
    assert list(json.loads(t.client().generate(HELLO, schema=schema, max_new_tokens=100)["text"])) == ["name"]


def messages(t):
    """messages, to which the server applies its template"""
    assert t.client().chat("Thank you!", "french") == "Je vous en prie !"


def default_length(t):
    """20 tokens when nothing is said"""
    assert len(t.client().generate(COUNT)["tokens"]) == 20


# refusals


def invalid(t):
    """a refusal, told in the server's words"""
    t.refused(lambda: t.client().generate(HELLO, max_new_tokens=10_000), "must be <= 2048")


def invalid_stream(t):
    """the same inside a stream (HTTP 200)"""
    t.refused(lambda: t.client().stream(HELLO, max_new_tokens=10_000), "must be <= 2048")


def no_adapter(t):
    """an adapter that is not there"""
    t.refused(lambda: t.client().generate(HELLO, adapter_id="nobody"), "No adapter weights found")


def plain_text(t):
    """a rejection in plain text"""
    words = "Failed to deserialize the JSON body"
    server = t.scripted(
        lambda c: (
            c.head(422, "text/plain", Transfer_Encoding=None, Content_Length=len(words)),
            c.send(words),
        )
    )
    error = t.refused(lambda: t.client(server.url).generate("x"), words)
    assert "JSONDecode" not in type(error).__name__
    error = t.refused(lambda: t.client(server.url).stream("x"), words)
    assert "JSONDecode" not in type(error).__name__


def merge_strategy(t):
    """a merge strategy that would abort the router is not sent"""
    server = t.scripted(lambda c: c.json(WHOLE))
    wrong = {"ids": ["a"], "weights": [1.0], "merge_strategy": "avarage", "density": 0.0}
    t.refused(lambda: t.client(server.url).generate("x", merged=wrong))
    assert not server.requests, "it was sent"


# streams


def failure(t):
    """a failure in the middle of a stream"""
    t.refused(lambda: t.client().stream(COUNT + "[[error 5]]", max_new_tokens=40), "as was asked for")


def no_final_event(t):
    """a stream without its final event is no success"""
    t.refused(lambda: t.client().stream(COUNT + "[[end]]", max_new_tokens=40))


def cut(t):
    """a connection that is cut is no success"""
    t.refused(lambda: t.client().stream(COUNT + "[[cut 5]]", max_new_tokens=40))


def keep_alive(t):
    """keep-alive comments"""
    text, whole = t.client(t.small_url).stream(FRANCE + "[[slow 0.15]]", max_new_tokens=4)
    assert text == whole


def null_logprob(t):
    """a log-probability that is null"""
    null = event("a")
    null["token"]["logprob"] = None
    assert t.streamed(null, final("b", "ab")) == ("ab", "ab")


def done(t):
    """[DONE] after the answer, or in it"""
    assert t.streamed(event("a"), "data: [DONE]\n\n", final("b", "ab"), "data: [DONE]\n\n") == ("ab", "ab")


def many_lines(t):
    """data on several lines"""
    lines = json.dumps(event("a"), indent=1).replace("\n", "\ndata: ")
    assert t.streamed(f"data: {lines}\n\n", final("b", "ab")) == ("ab", "ab")


def old_servers(t):
    """data without a space, as older servers write it"""
    assert t.streamed(f"data:{json.dumps(event('a'))}\n\n", final("b", "ab")) == ("ab", "ab")


# connections


def reuse(t):
    """one connection for several requests"""
    server = t.scripted(lambda c: c.json(WHOLE))
    client = t.client(server.url)
    for _ in range(4):
        assert client.generate("x")["text"] == "Hi"
    assert server.connections == 1, f"{server.connections} connections for 4 requests"


def closing(t):
    """close()"""
    server = t.scripted(lambda c: c.json(WHOLE))
    client = t.client(server.url)
    client.generate("x")
    client.close()


def timeout(t):
    """timeout=1: a second between pieces of a stream, keep-alives or not"""
    began = time.monotonic()
    t.refused(lambda: t.client(t.small_url, timeout=1).stream(COUNT + "[[hang 2]]", max_new_tokens=40))
    assert time.monotonic() - began < SECONDS - 4, "it took much longer"


def dead_host(t):
    """a host that does not answer, with timeout=1"""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = "http://{}:{}".format(*listener.getsockname())
        began = time.monotonic()
        t.refused(lambda: t.client(url, timeout=1).generate("x"))
        assert time.monotonic() - began < SECONDS - 4, "it took much longer"


def retry(t):
    """503 once, then an answer"""
    server = t.scripted(lambda c: c.json({"error": "x"}, 503) if len(server.requests) < 2 else c.json(WHOLE))
    assert t.client(server.url).generate("x")["text"] == "Hi"


def not_twice(t):
    """a request that may be running is not sent again"""
    server = t.scripted(lambda c: c.sock.close())
    t.refused(lambda: t.client(server.url).generate("x"))
    assert len(server.requests) == 1, f"it was sent {len(server.requests)} times"


SCENARIOS = [
    answer, stream, chinese, adapter, source, merged, private, sampling, stops, prefill, form, messages,
    default_length, invalid, invalid_stream, no_adapter, plain_text, merge_strategy, failure,
    no_final_event, cut, keep_alive, null_logprob, done, many_lines, old_servers, reuse, closing, timeout,
    dead_host, retry, not_twice,
]  # fmt: skip


class _TimeLimit(BaseException):
    pass


def outcome(scenario, *where):
    """Run one scenario; return its outcome."""

    def on_alarm(*_):
        raise _TimeLimit

    trial = Trial(*where)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(SECONDS)
    try:
        scenario(trial)
    except NotOffered:
        return "not offered"
    except _TimeLimit:
        return f"no end within {SECONDS} s"
    except AssertionError as error:
        return _short(str(error).split("\nassert")[0] or "another result")
    except Exception as error:
        return _short(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        trial.close()
    return "pass"


def _short(words):
    words = re.sub(r"https?://\S+|0x[0-9a-f]+|port[ =]\d+", "…", " ".join(words.split()))
    return words if len(words) < 80 else words[:77] + "…"


if __name__ == "__main__":
    print(json.dumps({one.__doc__: outcome(one, *sys.argv[1:4]) for one in SCENARIOS}))
