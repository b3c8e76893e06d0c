"""lmdeploy's turbomind behind Triton (0.2 to 0.5.1): three models, sessions kept at the server. Pure.

The model `preprocessing` tokenizes, `turbomind` generates token ids, `postprocessing` detokenizes. With a
local tokenizer, `preprocessing` and `postprocessing` are not used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from ....core.request import Request
from ....errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    ServerError,
    SessionBusy,
    SessionOutOfLimit,
)
from ....protocols.special_tokens import special_words
from ....schema import Piece, Usage
from ....templates.history import Held
from ....templates.injection import without_marks
from ..conversation import READ_RESPONSE, Command, Conversation, Infer, InferRequest, OpenStream, Steps
from ..dialect import Model, unsupported
from ..inputs import RequestInputs
from .base import make_request_parameters, optional_values
from .detokenize import POSTPROCESSING, StreamDetokenizer
from .sampling import sampling

__all__ = ["DIALECT", "Turbomind", "tokenize_prompt"]

PREPROCESSING = "preprocessing"
_SAMPLING = {"temperature": "temperature", "top_k": "runtime_top_k", "top_p": "runtime_top_p"}
#: The inputs that honour further parameters.
_INPUTS = {
    "repetition_penalty": "repetition_penalty",
    "seed": "random_seed",
    "ignore_eos": "bad_words_list",
}
_FAILURE = re.compile(r"TurboMind execute failure:\s+(\d+)")
#: Codes in turbomind's error messages; it sends no other.
_INVALID, _CONFLICT, _BUSY, _INACTIVE, _, _TOO_LONG = "123456"


class Turbomind:
    """See the module."""

    name: ClassVar[str] = "turbomind"
    tokenizes: ClassVar[bool] = True

    def missing(self, model: Model) -> list[str]:
        """See `Dialect.missing`."""
        needed = ("input_ids", "input_lengths", "request_output_len", "START", "END", "CORRID")
        missing = [f"input {name}" for name in needed if name not in model.config.inputs]
        if model.tokenizer is None:
            missing += [
                f"the model {name} beside it"
                for name in (PREPROCESSING, POSTPROCESSING)
                if name not in model.companions
            ]
        elif not model.tokenizer.decodes:
            missing.append("a tokenizer that can decode")
        return missing

    def conversation(self, request: Request, model: Model) -> Conversation:
        """See `Dialect.conversation`."""
        for row, value in optional_values(request):
            supported = row.name == "skip_special_tokens" or _INPUTS.get(row.name) in model.config.inputs
            if not supported and not row.is_no_op(value):
                raise unsupported(self.name, model, row.name, value)
        return _Turn(request, model, sampling(request, model, self.name, _SAMPLING))


class _Turn:
    """One turn of a session, or a stateless call."""

    def __init__(self, request: Request, model: Model, sampling: Mapping[str, Any]) -> None:
        self._request, self._model, self._sampling = request, model, sampling
        self._prompt = request.prompt or ""
        self._held = request.held
        # Not the session_id: other clients of the server may use the same one.
        self._id = self._held.id if self._held is not None else random.getrandbits(62) | 1 << 62
        if self._held is not None and not self._prompt.startswith(self._held.text):
            self._held = None  # the template has rewritten the history, so the server gets all of it again
        self._context = 0
        self._ended = self._sent = self._begun = False

    @property
    def server_session(self) -> int:
        """See `Conversation`."""
        return self._id

    def steps(self) -> Steps:
        """See `Conversation`."""
        may_be_lost = self._held is not None
        try:
            yield from self._generate()
        except ServerError as error:
            # Refused: what runs in the session now, if anything does, is another client's turn.
            self._sent = self._begun
            code = _FAILURE.search(str(error))
            if code is None:
                raise
            if not (may_be_lost and code[1] in (_INVALID, _INACTIVE) and not self._begun):
                raise self._typed_error(code[1], error) from error
            self._held = None  # the server has lost the session: send the history again
            yield from self.steps()

    def cancel_request(self) -> InferRequest | None:
        """See `Conversation`: a request with STOP, since turbomind ignores gRPC's cancel."""
        if not self._sent or self._ended:
            return None
        inputs = self._inputs([1], 0, stop=True, end=self._request.options.sequence_end)
        return InferRequest(
            self._model.config.name, inputs.tensors, request_parameters=self._request_parameters(start=False)
        )

    def _generate(self) -> Steps:
        request, model, held = self._request, self._model, self._held
        step = held.tokens if held is not None else 0
        text = self._prompt[len(held.text) :] if held is not None else self._prompt.removeprefix(model.bos)
        ids = yield from tokenize_prompt(model, text)
        if step and ids[:1] == (yield from _special(model, "<BOS>")):
            ids = ids[1:]
        if not ids:
            raise InvalidArgument("inputs: the prompt has no tokens", argument="inputs")
        max_new_tokens = request.params.max_new_tokens
        if model.session_len is not None and step + len(ids) + max_new_tokens > model.session_len:
            raise SessionOutOfLimit(
                f"{step} tokens of history + {len(ids)} of the prompt + max_new_tokens={max_new_tokens} "
                f"exceed session_len={model.session_len}",
                session_id=request.options.session_id,
            )
        ends = yield from _special(model, "<EOS>")
        banned = ends if request.params.ignore_eos else []  # then it never generates them
        inputs = self._inputs(ids, max_new_tokens, stop=False, end=request.options.sequence_end)
        self._put_sampling(inputs)
        if banned:
            inputs.put("bad_words_list", *banned, *range(1, len(banned) + 1))
        stops = yield from self._stop_ids()
        if stops:
            inputs.put("stop_words_list", *stops, *range(1, len(stops) + 1))
        inputs.add(request.options.extra_inputs or {})
        self._context, self._sent = step + len(ids), True
        # The session rewinds to the prompt if a stop word ends the answer on this side.
        request.held = Held(self._context, self._prompt, self._id)
        yield OpenStream(
            InferRequest(
                model.config.name,
                inputs.tensors,
                request.options.request_id,
                self._request_parameters(start=not step),
            )
        )
        yield from self._read([] if banned else ends)

    def _read(self, ends: Sequence[int]) -> Steps:
        length, ended = self._context, False
        text = StreamDetokenizer(self._model, skip_special_tokens=self._request.params.skip_special_tokens)
        while (response := (yield READ_RESPONSE)) is not None:
            self._begun = True
            # Every response holds the whole sequence, padded.
            new = response.values("output_ids", length, next(iter(response.values("sequence_length")), 0))
            if ended or not new:
                continue
            length += len(new)
            if new[-1] in ends:
                ended, length, new = True, length - 1, new[:-1]
            yield Piece((yield from text.feed(new)), tuple(new), length - self._context)
        rest = yield from text.finish()
        count = length - self._context
        self._ended, self._request.held = True, Held(length, self._prompt + text.text, self._id)
        reason = "length" if not ended and count >= self._request.params.max_new_tokens else "stop"
        yield Piece(rest, n_tokens=count, finish_reason=reason, usage=Usage(self._context, count))  # type: ignore[arg-type]

    def _inputs(self, ids: Sequence[int], max_new_tokens: int, *, stop: bool, end: bool) -> RequestInputs:
        inputs = RequestInputs(self._model.config)
        inputs.put("input_ids", *ids)
        inputs.put("input_lengths", len(ids))
        inputs.put("request_output_len", max_new_tokens)
        step = self._held.tokens if self._held is not None else 0
        inputs.put("step", self._context if stop else step)
        inputs.put("START", not stop and not step)
        inputs.put("END", end)
        inputs.put("STOP", stop)
        inputs.put("CORRID", self._id)
        if self._model.session_len is not None:
            inputs.put("session_len", self._model.session_len)
        return inputs

    def _put_sampling(self, inputs: RequestInputs) -> None:
        params = self._request.params
        inputs.update(self._sampling)
        if self._request.sends("repetition_penalty"):
            inputs.put("repetition_penalty", params.repetition_penalty)
        if self._held is None:  # the server accepts a seed only at the start of a session
            inputs.put("random_seed", random.getrandbits(63) if params.seed is None else params.seed)

    def _stop_ids(self) -> Generator[Command, Any, list[int]]:
        """Return the ids of the stop words that are special tokens; the server supports no others."""
        found = []
        for word in special_words(self._request.stop_words):
            ids = yield from _special(self._model, word)
            if len(ids) == 1:
                found += ids
        return found

    def _request_parameters(self, *, start: bool) -> dict[str, bool | int | float | str]:
        parameters = make_request_parameters(self._request, in_sequence=True, sequence_id=self._id)
        return {**parameters, "sequence_start": start}

    def _typed_error(self, code: str, error: ServerError) -> LLMError:
        session_id = self._request.options.session_id
        if code in (_CONFLICT, _BUSY):
            return SessionBusy(
                f"session {session_id} has a call running at the server", session_id=session_id
            )
        if code == _TOO_LONG:
            return ContextLengthExceeded(str(error), status_code=error.status_code, code=code)
        return ServerError(str(error), status_code=error.status_code, code=code)


def tokenize_prompt(model: Model, text: str) -> Generator[Command, Any, list[int]]:
    """Return the token ids of a prompt, from the local tokenizer or the model `preprocessing`.

    TensorRT-LLM's `preprocessing` works too: it requires one more input, which has no effect on the ids.
    """
    if model.tokenizer is not None:
        return model.tokenizer.encode(text)
    inputs = RequestInputs(model.companions[PREPROCESSING])
    inputs.put("QUERY", without_marks(text))
    inputs.put("REQUEST_OUTPUT_LEN", 1)
    response = yield Infer(InferRequest(PREPROCESSING, inputs.tensors))
    lengths = response.values("REQUEST_INPUT_LEN")
    return list(response.values("INPUT_ID", 0, lengths[0] if lengths else None))


def _special(model: Model, word: str) -> Generator[Command, Any, list[int]]:
    """Return the ids of a special token, looked up once; '<BOS>' and '<EOS>' are the model's own."""
    cache: dict[str, list[int]] = model.cache.setdefault("special", {})
    if word not in cache:
        if model.tokenizer is not None:
            cache[word] = model.tokenizer.special(word)
        else:
            bos = [] if word in ("<BOS>", "<EOS>") else (yield from _special(model, "<BOS>"))
            ids = yield from tokenize_prompt(model, word)
            cache[word] = ids[1:] if bos and ids[:1] == bos else ids
    return cache[word]


DIALECT = Turbomind()
