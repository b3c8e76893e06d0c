"""lmdeploy's turbomind: token ids in and out, and sessions stored in the model.

A session stores the tokens of its turns; START opens it, END closes it after the answer, STOP ends the
running answer, `step` is the number of its tokens to keep. Errors have the messages and codes of turbomind: 1
invalid, 2 conflict, 3 busy, 4 inactive, 5 fail, 6 too long.
"""

import asyncio

from .answers import Ask, Failure
from .model import Model

INVALID, CONFLICT, BUSY, INACTIVE, FAIL, TOO_LONG = range(1, 7)


class Refused(Exception):
    def __init__(self, code):
        super().__init__(f"TurboMind execute failure:  {code}")


class TritonPythonModel(Model):
    def initialize(self, args):
        super().initialize(args)
        self.sessions = {}
        self.running = {}

    def read(self, request):
        ids = self.values(request, "input_ids")
        top_k = self.value(request, "runtime_top_k", 0)
        length = self.value(request, "request_output_len")
        params = {
            "max_new_tokens": max(1, length),
            "temperature": 0 if top_k == 1 else self.value(request, "temperature", 1.0),
            "top_k": top_k or None,
            "top_p": self.value(request, "runtime_top_p", 1.0) or 1.0,
            "repetition_penalty": self.value(request, "repetition_penalty", 1.0),
            "seed": None,
        }
        seed = self.value(request, "random_seed")
        if seed is not None:
            params["seed"] = int(seed) % 2**63
        ask = Ask(ids, params)
        ask.length = length
        ask.start, ask.end, ask.stop_it = (
            bool(self.value(request, name, 0)) for name in ("START", "END", "STOP")
        )
        ask.id = int(self.value(request, "CORRID", 0))
        ask.step = self.value(request, "step", -1)
        ask.session_len = self.value(request, "session_len", 2048)
        banned = self.values(request, "bad_words_list")
        params["ignore_eos"] = bool(
            self.answers.llm.engine.tokenizer.eos_ids & set(banned[: len(banned) // 2])
        )
        words = self.values(request, "stop_words_list")
        ask.stop_ids = set(words[: len(words) // 2])
        return ask

    async def pieces(self, ask):
        if ask.stop_it:
            if ask.id not in self.running and ask.id not in self.sessions:
                raise Refused(INVALID)
            if ask.id in self.running:
                stopped, ended = self.running[ask.id]
                stopped.set()
                await ended.wait()
            if ask.end:
                self.sessions.pop(ask.id, None)
            return
        if ask.id in self.running:
            raise Refused(CONFLICT)
        if not ask.start and ask.id not in self.sessions:
            raise Refused(INVALID)
        history = [] if ask.start else self.sessions[ask.id]
        if ask.step > len(history):
            raise Refused(INVALID)
        history = history[: ask.step] if ask.step >= 0 else history
        if ask.length == 0:
            self.sessions.pop(ask.id, None) if ask.end else None
            return
        ask.prompt = [*history, *ask.prompt]
        if len(ask.prompt) + ask.length > ask.session_len:
            raise Refused(TOO_LONG)
        stopped, ended = self.running[ask.id] = asyncio.Event(), asyncio.Event()
        self.sessions[ask.id] = list(ask.prompt)
        try:
            async for piece in self._until(stopped, super().pieces(ask)):
                ends = [token for token in piece.token_ids if token in ask.stop_ids]
                if ends:
                    index = piece.token_ids.index(ends[0])
                    self.sessions[ask.id] += piece.token_ids[: index + 1]
                    yield piece
                    return
                self.sessions[ask.id] += piece.token_ids
                yield piece
        finally:
            del self.running[ask.id]
            ended.set()
            if ask.end:
                self.sessions.pop(ask.id, None)

    async def _until(self, stopped, pieces):
        stop = asyncio.ensure_future(stopped.wait())
        try:
            while True:
                step = asyncio.ensure_future(pieces.__anext__())
                await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    await asyncio.gather(step, return_exceptions=True)
                    return
                try:
                    yield step.result()
                except StopAsyncIteration:
                    return
        finally:
            stop.cancel()
            await pieces.aclose()

    def write(self, ask, piece):
        ids = self.sessions[ask.id]
        padded = [*ids, *[0] * (ask.session_len - len(ids))]
        return [
            self.tensor("output_ids", padded, (1, 1, len(padded))),
            self.tensor("sequence_length", [len(ids)], (1, 1)),
        ]


__all__ = ["Failure", "TritonPythonModel"]
