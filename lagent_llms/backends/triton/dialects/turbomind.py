"""lmdeploy's turbomind behind Triton (0.2 to 0.5.1): three models, sessions that live at the server. Pure.

Text becomes ids in the model `preprocessing`, `turbomind` continues them, `postprocessing` makes text of what
it adds; with a tokenizer at this side the first and the last are not asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from ....core.request import Request
from ....core.sessions import Held
from ....errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    ServerError,
    SessionBusy,
    SessionOutOfLimit,
)
from ....protocols.special_tokens import looks_special
from ....schema import Piece, Usage
from ..conversation import NEXT, Ask, Command, Conversation, InferRequest, Open, Steps
from ..dialect import Model, unsupported
from ..inputs import Inputs
from .base import optional_values, request_parameters
from .detokenize import POSTPROCESSING, Detokenizing
from .sampling import sampling

__all__ = ["DIALECT", "Turbomind", "ask_tokens"]

PREPROCESSING = "preprocessing"
_SAMPLING = {"temperature": "temperature", "top_k": "runtime_top_k", "top_p": "runtime_top_p"}
#: The inputs that honour further parameters.
_INPUTS = {
    "repetition_penalty": "repetition_penalty",
    "seed": "random_seed",
    "ignore_eos": "bad_words_list",
}
_FAILURE = re.compile(r"TurboMind execute failure:\s+(\d+)")
_INVALID, _CONFLICT, _BUSY, _INACTIVE, _, _TOO_LONG = "123456"


class Turbomind:
    """See this module."""

    name: ClassVar[str] = "turbomind"

    def missing(self, model: Model) -> list[str]:
        """See `Dialect.missing`."""
        needed = ("input_ids", "input_lengths", "request_output_len", "START", "END", "CORRID")
        lacking = [f"input {name}" for name in needed if name not in model.config.inputs]
        if model.tokens is None:
            lacking += [
                f"the model {name} beside it"
                for name in (PREPROCESSING, POSTPROCESSING)
                if name not in model.companions
            ]
        elif not model.tokens.decodes:
            lacking.append("a tokenizer that can decode")
        return lacking

    def conversation(self, request: Request, model: Model) -> Conversation:
        """See `Dialect.conversation`."""
        for row, value in optional_values(request):
            supported = row.name == "skip_special_tokens" or _INPUTS.get(row.name) in model.config.inputs
            if not supported and not row.is_no_op(value):
                raise unsupported(self.name, model, row.name, value)
        return _Turn(request, model, sampling(request, model, self.name, _SAMPLING))


class _Turn:
    """One turn of a session, or a call of its own."""

    def __init__(self, request: Request, model: Model, sampling: Mapping[str, Any]) -> None:
        self._request, self._model, self._sampling = request, model, sampling
        self._stateless = request.options.stateless
        # A stateless call takes an id that nobody else has, whatever its session_id.
        self._id = random.getrandbits(62) | 1 << 62 if self._stateless else request.options.session_id
        self._prompt = request.prompt or ""
        self._held = request.held
        if self._held is not None and not self._prompt.startswith(self._held.text):
            self._held = None  # the template writes it anew: so does the server
        self._context = 0
        self._ended = self._sent = self._begun = False

    @property
    def wait_for(self) -> int:
        """See `Conversation`: the session."""
        return self._id

    def steps(self) -> Steps:
        """See `Conversation`."""
        lost = self._held is not None
        try:
            yield from self._answer()
        except ServerError as error:
            # Refused: what runs in the session now, if anything does, is somebody else's.
            self._sent = self._begun
            code = _FAILURE.search(str(error))
            if code is None:
                raise
            if not (lost and code[1] in (_INVALID, _INACTIVE) and not self._begun):
                raise self._explained(code[1], error) from error
            self._held = None  # the server has forgotten the session; we have not
            yield from self.steps()

    def farewell(self) -> InferRequest | None:
        """See `Conversation`: a second request with STOP ends the generation, if it may have begun."""
        if not self._sent or self._ended:
            return None
        inputs = self._inputs([1], 0, stop=True, end=self._request.options.sequence_end)
        return InferRequest(self._model.config.name, inputs.tensors, parameters=self._parameters(start=False))

    def _answer(self) -> Steps:
        request, model, held = self._request, self._model, self._held
        step = held.tokens if held is not None else 0
        text = self._prompt[len(held.text) :] if held is not None else self._prompt.removeprefix(model.bos)
        ids = yield from ask_tokens(model, text)
        if step and ids[:1] == (yield from _special(model, "<BOS>")):
            ids = ids[1:]
        if not ids:
            raise InvalidArgument("inputs: the prompt has no tokens", argument="inputs")
        most = request.params.max_new_tokens
        if model.session_len is not None and step + len(ids) + most > model.session_len:
            raise SessionOutOfLimit(
                f"{step} tokens of history + {len(ids)} of the prompt + max_new_tokens={most} exceed "
                f"session_len={model.session_len}",
                session_id=request.options.session_id,
            )
        ends = yield from _special(model, "<EOS>")
        banned = ends if request.params.ignore_eos else []  # it never says them then
        inputs = self._inputs(ids, most, stop=False, end=request.options.sequence_end)
        self._sample(inputs)
        if banned:
            inputs.put("bad_words_list", *banned, *range(1, len(banned) + 1))
        stops = yield from self._stop_ids()
        if stops:
            inputs.put("stop_words_list", *stops, *range(1, len(stops) + 1))
        self._context, self._sent = step + len(ids), True
        request.held = Held(self._context, self._prompt)  # kept if a stop word ends the answer on our side
        yield Open(
            InferRequest(
                model.config.name,
                inputs.tensors,
                request.options.request_id,
                self._parameters(start=not step),
            )
        )
        yield from self._read([] if banned else ends)

    def _read(self, ends: Sequence[int]) -> Steps:
        known, ended = self._context, False
        text = Detokenizing(self._model, skip_special_tokens=self._request.params.skip_special_tokens)
        while (response := (yield NEXT)) is not None:
            self._begun = True
            length = response.values("sequence_length")[0]
            new = response.values("output_ids", known, length)
            if ended or not new:
                continue
            known += len(new)
            if new[-1] in ends:
                ended, known, new = True, known - 1, new[:-1]
            yield Piece((yield from text.feed(new)), tuple(new), known - self._context)
        rest = yield from text.finish()
        count = known - self._context
        self._ended, self._request.held = True, Held(known, self._prompt + text.text)
        reason = "length" if not ended and count >= self._request.params.max_new_tokens else "stop"
        yield Piece(rest, n_tokens=count, finish_reason=reason, usage=Usage(self._context, count))  # type: ignore[arg-type]

    def _inputs(self, ids: Sequence[int], most: int, *, stop: bool, end: bool) -> Inputs:
        inputs = Inputs(self._model.config)
        inputs.put("input_ids", *ids)
        inputs.put("input_lengths", len(ids))
        inputs.put("request_output_len", most)
        step = self._held.tokens if self._held is not None else 0
        inputs.put("step", self._context if stop else step)
        inputs.put("START", not stop and not step)
        inputs.put("END", end)
        inputs.put("STOP", stop)
        inputs.put("CORRID", self._id)
        if self._model.session_len is not None:
            inputs.put("session_len", self._model.session_len)
        return inputs

    def _sample(self, inputs: Inputs) -> None:
        params = self._request.params
        inputs.update(self._sampling)
        inputs.put("repetition_penalty", params.repetition_penalty)
        if self._held is None:  # only the start of a session takes one
            inputs.put("random_seed", random.getrandbits(63) if params.seed is None else params.seed)

    def _stop_ids(self) -> Generator[Command, Any, list[int]]:
        """Ids of the stop words that are special tokens: it knows no others."""
        found = []
        for word in filter(looks_special, self._request.stop_words):
            ids = yield from _special(self._model, word)
            if len(ids) == 1:
                found += ids
        return found

    def _parameters(self, *, start: bool) -> dict[str, bool | int | float | str]:
        parameters = request_parameters(self._request, in_sequence=True, sequence_id=self._id)
        return {**parameters, "sequence_start": start}

    def _explained(self, code: str, error: ServerError) -> LLMError:
        session_id = self._request.options.session_id
        if code in (_CONFLICT, _BUSY):
            return SessionBusy(
                f"session {session_id} has a call running at the server", session_id=session_id
            )
        if code == _TOO_LONG:
            return ContextLengthExceeded(str(error), status_code=error.status_code, code=code)
        return ServerError(str(error), status_code=error.status_code, code=code)


def ask_tokens(model: Model, text: str) -> Generator[Command, Any, list[int]]:
    """The token ids of a prompt, from the tokenizer here or the model `preprocessing`.

    That model is also TensorRT-LLM's, whose further inputs are filled with what does not matter here.
    """
    if model.tokens is not None:
        return model.tokens.encode(text)
    inputs = Inputs(model.companions[PREPROCESSING])
    inputs.put("QUERY", text)
    inputs.put("REQUEST_OUTPUT_LEN", 1)
    response = yield Ask(InferRequest(PREPROCESSING, inputs.tensors))
    lengths = response.values("REQUEST_INPUT_LEN")
    return list(response.values("INPUT_ID", 0, lengths[0] if lengths else None))


def _special(model: Model, word: str) -> Generator[Command, Any, list[int]]:
    """The ids of a special token (<BOS> and <EOS> are the model's own), asked for once."""
    known: dict[str, list[int]] = model.known.setdefault("special", {})
    if word not in known:
        if model.tokens is not None:
            known[word] = model.tokens.special(word)
        else:
            bos = [] if word in ("<BOS>", "<EOS>") else (yield from _special(model, "<BOS>"))
            ids = yield from ask_tokens(model, word)
            known[word] = ids[1:] if bos and ids[:1] == bos else ids
    return known[word]


DIALECT = Turbomind()
