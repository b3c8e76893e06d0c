"""One request from validation to answer, whole or streamed; all routes use it."""

import asyncio
import json
import re
import time

from generation import Sequence
from validation import Rejected, check, check_stream


class Server:
    """State shared by the routes.

    Args:
        engine: The engine that generates.
        limits: Limits of requests.
        model_id: The base model's name.
        keep_alive: Seconds of silence after which a stream gets a comment.
    """

    def __init__(self, engine, limits, model_id, keep_alive):
        self.engine = engine
        self.limits = limits
        self.model_id = model_id
        self.keep_alive = keep_alive
        self.active = 0
        self.served = 0

    def encode(self, text, *, special=True):
        return self.engine.tokenizer.encode(text, add_special_tokens=special)


class Job:
    """One request.

    Args:
        server: State shared by the routes.
        request: The request body.
        authorization: The Authorization header; a bearer token is the api_token unless the body has one.
        special: Whether the tokenizer's BOS is prepended to the prompt.
    """

    def __init__(self, server, request, authorization="", *, special=True):
        self.server = server
        self.request = request
        self.given = request.parameters
        self.special = special
        self.began = time.monotonic()
        if self.given.api_token is None and authorization.startswith("Bearer "):
            self.given.api_token = authorization.removeprefix("Bearer ")
        self._sequences = []

    def headers(self):
        """Return the headers that are known before the answer."""
        found = {
            "x-compute-type": "gpu+optimized",
            "x-compute-characters": str(len(self.request.inputs)),
            "x-model-id": self.server.model_id,
        }
        merged = self.given.merged_adapters
        ids = merged.ids if merged is not None else [self.given.adapter_id] if self.given.adapter_id else []
        if ids:
            found["x-adapter-id"] = ",".join(ids)
            found["x-adapter-source"] = self.given.adapter_source or "hub"
        return found

    async def whole(self):
        """Return the body of the answer and its headers.

        Raises:
            Rejected: The request failed.
        """
        with _Permit(self.server):
            ids, most, seed = self._check()
            count = self.given.best_of or 1
            seeds = [seed] + [(seed + 7919 * n) % 2**64 for n in range(1, count)]
            answers = await asyncio.gather(*(self._answer(ids, most, one) for one in seeds))
        answers.sort(key=lambda one: -sum(token["logprob"] or 0.0 for token in one["tokens"]))
        best = answers[0]
        body = {"generated_text": best["generated_text"]}
        if self.given.details or self.given.decoder_input_details:
            body["details"] = {
                "finish_reason": best["finish_reason"],
                "prompt_tokens": len(ids),
                "generated_tokens": best["generated_tokens"],
                "skipped_tokens": 0,
                "seed": best["seed"],
                "prefill": best["prefill"],
                "tokens": best["tokens"],
            }
            if count > 1:
                body["details"]["best_of_sequences"] = answers[1:]
        return body, {**self.headers(), **self._timings(len(ids), best["generated_tokens"])}

    async def stream(self):
        """Yield the events of the answer: dicts of the protocol, None where a keep-alive is due.

        A failure is the last event.
        """
        try:
            check_stream(self.given)
            with _Permit(self.server):
                ids, most, seed = self._check()
                sequence, items = self._submit(ids, most, seed)
                while True:
                    try:
                        item = await asyncio.wait_for(items.get(), self.server.keep_alive)
                    except asyncio.TimeoutError:
                        yield None
                        continue
                    if isinstance(item, Exception):
                        raise _failure(item)
                    if "token" not in item:
                        continue
                    event = {"token": item["token"], "generated_text": None, "details": None}
                    if item["reason"] is None:
                        yield event
                        continue
                    if "[[end]]" in self.request.inputs:  # a fault: no final event
                        return
                    event["generated_text"] = self._text(sequence)
                    if self.given.details:
                        event["details"] = {
                            "finish_reason": item["reason"],
                            "prompt_tokens": len(ids),
                            "generated_tokens": len(sequence.generated),
                            "seed": sequence.seed if self.given.samples else None,
                        }
                    yield event
                    return
        except Rejected as refusal:
            yield refusal.body
        finally:
            self.cancel()

    def cancel(self):
        """Cancel all generations of this request."""
        for sequence in self._sequences:
            sequence.cancelled = True

    def _check(self):
        def encode(text):
            return self.server.encode(FAULT.sub("", text), special=self.special)

        return check(self.request, self.server.limits, encode)

    def _submit(self, ids, most, seed):
        loop, items = asyncio.get_running_loop(), asyncio.Queue()

        def emit(item):
            loop.call_soon_threadsafe(items.put_nowait, item)

        sequence = Sequence(ids, self.request, most, seed, emit)
        self._sequences.append(sequence)
        self.server.engine.submit(sequence)
        return sequence, items

    async def _answer(self, ids, most, seed):
        sequence, items = self._submit(ids, most, seed)
        prefill, tokens, reason = [], [], None
        while reason is None:
            item = await items.get()
            if isinstance(item, Exception):
                raise _failure(item)
            if "prefill" in item:
                prefill = item["prefill"]
            else:
                tokens.append(item["token"])
                reason = item["reason"]
        return {
            "generated_text": self._text(sequence),
            "finish_reason": reason,
            "generated_tokens": len(tokens),
            "seed": seed if self.given.samples else None,
            "prefill": prefill if self.given.decoder_input_details else [],
            "tokens": tokens,
        }

    def _text(self, sequence):
        return (self.request.inputs if self.given.return_full_text else "") + sequence.text.whole()

    def _timings(self, prompt_tokens, generated_tokens):
        now = time.monotonic()
        started = self._sequences[0].started
        spent = {
            "x-compute-time": now - self.began,
            "x-total-time": now - self.began,
            "x-validation-time": 0.0,
            "x-queue-time": started - self.began,
            "x-inference-time": now - started,
            "x-time-per-token": (now - started) / max(1, generated_tokens),
        }
        return {
            **{name: str(int(seconds * 1000)) for name, seconds in spent.items()},
            "x-prompt-tokens": str(prompt_tokens),
            "x-generated-tokens": str(generated_tokens),
            "x-total-tokens": str(prompt_tokens + generated_tokens),
        }


class _Permit:
    """Counts a running request; raises if there are too many."""

    def __init__(self, server):
        self._server = server

    def __enter__(self):
        if self._server.active >= self._server.limits.max_concurrent_requests:
            raise Rejected(429, "Model is overloaded", "overloaded")
        self._server.active += 1
        self._server.served += 1

    def __exit__(self, *_):
        self._server.active -= 1


def _failure(error):
    return Rejected(424, f"Request failed during generation: {error}", "generation")


def as_event(item):
    """Encode one server-sent event."""
    return b":\n\n" if item is None else f"data: {json.dumps(item, ensure_ascii=False)}\n\n".encode()


#: Words in a prompt that trigger a fault; they are removed from the prompt of the model.
FAULT = re.compile(r"\[\[(slow|error|hang|cut|end)( [\d.]+)?\]\]")


def cut_after(request):
    """Return the number of tokens after which the connection is cut; None for never."""
    found = re.search(r"\[\[cut (\d+)\]\]", request.inputs)
    return int(found[1]) if found else None
