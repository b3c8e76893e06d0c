"""Sources of answers: the embedded model, or the script in the prompt.

==================  ================================================================================
``[[tokens N]]``    the answer is N short words
``[[say TEXT]]``    the answer is TEXT, a word at a time
``[[first S]]``     the first token takes S seconds longer
``[[slow S]]``      every token takes S seconds longer
``[[error N]]``     the model reports an error after N tokens; ``[[error N UNAVAILABLE]]`` with that code
``[[raise N]]``     the model's code fails after N tokens
``[[hang N]]``      nothing is sent after N tokens
``[[crash N]]``     the model's process dies after N tokens
==================  ================================================================================
"""

import asyncio
import os
import re
from dataclasses import dataclass, field

from lagent_llms.schema import Piece, Usage

_MARK = re.compile(r"\[\[(tokens|say|first|slow|error|raise|hang|crash)(?: ([^\]]*))?\]\]")


class Failure(Exception):
    """The model reports an error.

    Args:
        code: Name of one of Triton's error codes.
    """

    def __init__(self, code):
        super().__init__("the model was told to fail")
        self.code = code


@dataclass
class Ask:
    """One request, independent of the dialect.

    Attributes:
        prompt: Text, or token ids.
        params: Parameters with the names of lagent_llms.
        stop: Strings that end the answer.
        with_stop: Whether such a string is part of the answer.
        stream: Whether the answer is streamed.
        before: Prefix of an answer in one piece.
    """

    prompt: object
    params: dict = field(default_factory=dict)
    stop: tuple = ()
    with_stop: bool = True
    stream: bool = True
    before: str = ""


class Answers:
    """Answers of one model.

    Args:
        embedded: Whether the embedded model answers prompts without a mark.
    """

    def __init__(self, embedded):
        self.llm = None
        if embedded:
            from lagent_llms import AsyncJAXPipeline

            self.llm = AsyncJAXPipeline(temperature=0, max_slots=8)

    async def pieces(self, ask):
        """Yield the answer a token at a time; the last piece has a finish_reason."""
        text = ask.prompt if isinstance(ask.prompt, str) else self.llm.engine.tokenizer.decode(ask.prompt)
        asked = dict(_MARK.findall(text))
        scripted = self.llm is None or "tokens" in asked or "say" in asked
        source = self._scripted(ask, asked) if scripted else self._embedded(ask)
        count, so_far = 0, ""
        async for piece in source:
            await _faults(asked, count)
            count += 1
            so_far += piece.text
            found = [(so_far.find(word), word) for word in ask.stop if word in so_far]
            if found:
                start, word = min(found)
                end = start + (len(word) if ask.with_stop else 0)
                piece.text = so_far[len(so_far) - len(piece.text) : end]
                piece.finish_reason, piece.stop_word = "stop", word
                piece.usage = piece.usage or Usage(0, count)
            yield piece
            if piece.finish_reason:
                break
        await source.aclose()

    async def _scripted(self, ask, asked):
        most = ask.params.get("max_new_tokens", 16)
        words = re.findall(r"\s*\S+", asked["say"]) if "say" in asked else None
        words = words or [f"t{n} " for n in range(int(asked.get("tokens", 5)))]
        prompt_tokens = len(ask.prompt)
        for n, word in enumerate(words[:most], 1):
            last = n == min(most, len(words))
            reason = None if not last else "stop" if n == len(words) else "length"
            ids = () if self.llm is None else tuple(self.llm.engine.tokenizer.encode(word))
            yield Piece(word, ids, n, reason, usage=Usage(prompt_tokens, n) if last else None)

    async def _embedded(self, ask):
        prompt = ask.prompt if isinstance(ask.prompt, str) else "ids"
        request = self.llm.prepare(prompt, {**ask.params, "stop_words": [], "timeout": 600}).request
        if not isinstance(ask.prompt, str):
            self.llm._encode = lambda text, add_bos=True: list(ask.prompt)
            source = await self.llm._open(request)
            del self.llm._encode
        else:
            source = await self.llm._open(request)
        try:
            while True:
                piece = await source.__anext__()
                yield piece
                if piece.finish_reason:
                    return
        except StopAsyncIteration:
            return
        finally:
            source.close()


async def _faults(asked, count):
    """Trigger the faults due before token number `count`, from 0."""
    delay = float(asked.get("slow", 0)) + (float(asked.get("first", 0)) if count == 0 else 0)
    if delay:
        await asyncio.sleep(delay)
    for name in ("error", "raise", "hang", "crash"):
        if name not in asked:
            continue
        at, _, code = (asked[name] or "0").partition(" ")
        if count < int(at):
            continue
        if name == "error":
            raise Failure(code or "INTERNAL")
        if name == "raise":
            raise RuntimeError("a bug in the model")
        if name == "crash":
            os._exit(9)
        await asyncio.Event().wait()
