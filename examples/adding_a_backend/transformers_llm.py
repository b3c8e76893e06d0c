"""A third-party backend: any causal language model of transformers, in this process."""

import asyncio

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lagent_llms import AsyncBaseLLM, BaseLLM, Piece, Usage
from lagent_llms.core.deadline import Deadline
from lagent_llms.core.llm import LLMCore

REFUSED = "adapter_name logprobs min_p repetition_penalty response_format seed stream tool_choice top_k top_p"


class Core(LLMCore):
    in_process = True
    unsupported_parameters = frozenset(REFUSED.split())

    def __init__(self, path, **kwargs):
        super().__init__(**{"top_k": None, "top_p": 1, **kwargs})
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path)
        self.ends = torch.tensor(self.model.generation_config.eos_token_id).flatten().tolist()


class TransformersLLM(Core, BaseLLM):
    def _open(self, request):
        return Source(self, request)

    def _tokenize(self, text):
        return self.tokenizer.encode(text)


class AsyncTransformersLLM(Core, AsyncBaseLLM):
    async def _open(self, request):
        return Source(self, request)

    async def _tokenize(self, text):
        return self.tokenizer.encode(text)


class Source:
    """The pieces of one answer. Each step decodes one token, so nothing runs between two steps."""

    def __init__(self, llm, request):
        self.llm, self.params, self.deadline = llm, request.params, Deadline(request.options.timeout)
        self.prompt = llm.tokenizer.encode(request.prompt, add_special_tokens=request.add_bos)
        self.answer, self.cache, self.shown, self.closed = [], None, 0, False

    @torch.inference_mode()
    def __next__(self):
        if self.closed:
            raise StopIteration
        self.deadline.wake()
        new = torch.tensor([self.answer[-1:] or self.prompt])
        step = self.llm.model(new, past_key_values=self.cache, use_cache=True)
        self.cache, scores = step.past_key_values, step.logits[0, -1]
        hot = self.params.temperature
        self.answer.append(int((scores / hot).softmax(-1).multinomial(1) if hot else scores.argmax()))
        if self.deadline.remaining() == 0:
            raise self.deadline.exceeded()
        self.deadline.piece_arrived()
        return self.piece()

    async def __anext__(self):
        return await asyncio.to_thread(self.__next__)

    def piece(self):
        n, params = len(self.answer), self.params
        ended = self.answer[-1] in self.llm.ends and not params.ignore_eos
        reason = "stop" if ended else "length" if n == params.max_new_tokens else None
        text = self.llm.tokenizer.decode(self.answer[: n - ended], params.skip_special_tokens)
        half = text.endswith("\N{REPLACEMENT CHARACTER}") and not reason  # a character: wait for the rest
        new, self.shown = ("", self.shown) if half else (text[self.shown :], len(text))
        return Piece(new, n_tokens=n, finish_reason=reason, usage=Usage(len(self.prompt), n))

    def close(self):
        self.closed = True
