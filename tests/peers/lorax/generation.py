"""Decoding: one thread steps all running sequences in turn, each under its own adapter."""

import queue
import re
import threading
import time
from concurrent.futures import Future

import torch
from transformers import (
    DynamicCache,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
    WatermarkLogitsProcessor,
)

from adapters import Adapters, LoadFailure  # isort: skip
from grammar import Grammars  # isort: skip


class Text:
    """Incremental text of tokens: '' while a character is incomplete."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._ids = []
        self._begin = self._end = 0

    def feed(self, token):
        self._ids.append(token)
        before = self._decode(self._ids[self._begin : self._end])
        now = self._decode(self._ids[self._begin :])
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return ""
        self._begin, self._end = self._end, len(self._ids)
        return now[len(before) :]

    def whole(self):
        """Return the text of all tokens without special ones."""
        return self._tokenizer.decode(self._ids, skip_special_tokens=True)

    def _decode(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=False)


class Sequence:
    """One generation. The engine's thread calls `emit` with dicts of the protocol or an exception."""

    def __init__(self, ids, request, most, seed, emit):
        self.ids = ids
        self.request = request
        self.given = request.parameters
        self.most = most
        self.seed = seed
        self.emit = emit
        self.cancelled = False
        self.adapter = None
        self.cache = DynamicCache()
        self.generated = []
        self.matcher = None
        self.started = None
        self.not_before = 0.0
        self.recent = ""  # end of the text, for stop sequences
        self.random = torch.Generator().manual_seed(seed % 2**63)
        found = re.search(r"\[\[(slow|error|hang) ([\d.]+)\]\]", request.inputs)
        self.fault = (found[1], float(found[2])) if found else ("", 0.0)


class Engine:
    """The model behind the routes.

    Args:
        adapters: The model with its adapters.
        tokenizer: transformers' tokenizer.
    """

    def __init__(self, adapters: Adapters, tokenizer):
        self.adapters = adapters
        self.tokenizer = tokenizer
        self.fast = tokenizer.backend_tokenizer
        self.special = {i for i, t in self.fast.get_added_tokens_decoder().items() if t.special}
        ends = adapters.model.generation_config.eos_token_id
        self.ends = {ends} if isinstance(ends, int) else set(ends)
        self.grammars = Grammars(tokenizer, adapters.model.config.vocab_size, sorted(self.ends))
        self._tasks = queue.SimpleQueue()  # read by the thread, so that `submit` never waits for a step
        self._running = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def sequences(self):
        """Number of waiting and running sequences."""
        return self._tasks.qsize() + sum(not one.cancelled for one in self._running)

    def submit(self, sequence):
        self._tasks.put(lambda: self._running.append(sequence))

    def embed(self, text):
        """Return a future of the mean of the last hidden states."""
        ids, embedding = torch.tensor([self.tokenizer.encode(text)]), Future()
        self._tasks.put(lambda: self._embed(ids, embedding))
        return embedding

    def _embed(self, ids, embedding):
        try:
            with torch.inference_mode():
                self.adapters.use(None)
                states = self.adapters.model(ids, output_hidden_states=True).hidden_states[-1][0]
            embedding.set_result(states.mean(dim=0).tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            embedding.set_exception(error)

    def _run(self):
        while True:
            while not (self._running and self._tasks.empty()):
                self._tasks.get()()
            now = time.monotonic()
            ready = [one for one in self._running if one.cancelled or one.not_before <= now]
            ready.sort(key=lambda one: one.adapter or "")
            ended = {id(one) for one in ready if self._advance(one)}
            self._running = [one for one in self._running if id(one) not in ended]
            if not ready:
                time.sleep(0.002)

    def _advance(self, sequence):
        """Generate one token of `sequence`; return whether it has ended."""
        if sequence.cancelled:
            return True
        try:
            with torch.inference_mode():
                if sequence.started is None:
                    sequence.started = time.monotonic()
                    sequence.adapter = self.adapters.find(sequence.request)
                    sequence.matcher = self.grammars.matcher(sequence.given.response_format)
                self.adapters.use(sequence.adapter)
                return self._step(sequence)
        except (LoadFailure, RuntimeError, ValueError) as error:
            sequence.emit(error)
            return True

    def _step(self, sequence):
        given, done = sequence.given, sequence.generated
        fault, number = sequence.fault
        if fault == "error" and len(done) >= number:
            raise RuntimeError("CUDA out of memory, as was asked for")
        if fault == "hang" and len(done) >= number:
            sequence.not_before = time.monotonic() + 0.05
            return False
        fed = [done[-1]] if done else sequence.ids
        logits = self.adapters.model(
            torch.tensor([fed]), past_key_values=sequence.cache, use_cache=True
        ).logits[0]
        if not done:
            sequence.text = Text(self.fast)
            sequence.emit({"prefill": self._prefill(sequence.ids, logits)})
        token, logprobs = self._choose(sequence, logits[-1:].float())
        done.append(token)
        text = sequence.text.feed(token)
        item = {
            "id": token,
            "text": text,
            "logprob": _finite(logprobs[token]),
            "special": token in self.special,
            "skipped": False,
        }
        if given.return_k_alternatives:
            best = torch.topk(logprobs, given.return_k_alternatives)
            item["alternative_tokens"] = [
                {"id": i, "text": self.fast.decode([i], skip_special_tokens=False), "logprob": _finite(value)}
                for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        reason = self._reason(sequence, token, text)
        sequence.emit({"token": item, "reason": reason})
        if fault == "slow":
            sequence.not_before = time.monotonic() + number
        return reason is not None

    def _choose(self, sequence, scores):
        given = sequence.given
        seen = torch.tensor([sequence.ids + sequence.generated])
        if given.repetition_penalty not in (None, 1.0):
            scores = RepetitionPenaltyLogitsProcessor(given.repetition_penalty)(seen, scores)
        if given.frequency_penalty or given.presence_penalty:
            counts = torch.bincount(
                torch.tensor(sequence.generated, dtype=torch.long), minlength=scores.shape[1]
            )
            scores = scores - (given.frequency_penalty or 0) * counts
            scores = scores - (given.presence_penalty or 0) * (counts > 0)
        if given.ignore_eos_token is False and sequence.matcher is not None:
            scores = sequence.matcher.mask(scores)
        if given.watermark:
            scores = WatermarkLogitsProcessor(scores.shape[1], "cpu")(seen, scores)
        if not given.samples:
            logprobs = torch.log_softmax(scores[0], dim=-1)
            token = int(logprobs.argmax())
        else:
            for value, warper in (
                (given.temperature, TemperatureLogitsWarper),
                (given.top_k, TopKLogitsWarper),
                (given.top_p, TopPLogitsWarper),
                (given.typical_p, TypicalLogitsWarper),
            ):
                if value not in (None, 1.0) or (warper is TopKLogitsWarper and value == 1):
                    scores = warper(value)(seen, scores)
            logprobs = torch.log_softmax(scores[0], dim=-1)
            token = int(torch.multinomial(logprobs.exp(), 1, generator=sequence.random))
        if sequence.matcher is not None:
            sequence.matcher.accept(token)
        return token, logprobs

    def _prefill(self, ids, logits):
        logprobs = torch.log_softmax(logits[:-1].float(), dim=-1) if len(ids) > 1 else []
        values = [None] + [_finite(row[token]) for row, token in zip(logprobs, ids[1:], strict=True)]
        return [
            {"id": token, "text": self.fast.decode([token], skip_special_tokens=False), "logprob": value}
            for token, value in zip(ids, values, strict=True)
        ]

    def _reason(self, sequence, token, text):
        given = sequence.given
        if len(sequence.generated) >= sequence.most:
            return "length"
        if token in self.ends and not given.ignore_eos_token:
            return "eos_token"
        sequence.recent = (sequence.recent + text)[-300:]
        if any(sequence.recent.endswith(stop) for stop in given.stop):
            return "stop_sequence"
        return None


def _finite(value):
    value = float(value)
    return value if abs(value) < float("inf") else None  # NaN and infinities are null in JSON
