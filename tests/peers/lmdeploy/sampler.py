"""Sample the next token of one sequence with lmdeploy's own functions."""

import torch
from lmdeploy.pytorch.engine import logits_process
from lmdeploy.pytorch.messages import SamplingParam


class Sampler:
    """Picks tokens as lmdeploy's engines do.

    Args:
        config: The request's GenerationConfig.
        prompt: Its token ids.
        matcher: The grammar of its response_format; None without one.
        guided: lmdeploy's GuidedDecodingManager, which applies `matcher`.
        ban_ends: With ignore_eos the pytorch engine never generates end tokens (True); turbomind generates
            them and continues (False).
    """

    def __init__(self, config, prompt, matcher, guided, *, ban_ends):
        ends = list(config.stop_token_ids or [])
        self._config, self._matcher, self._guided = config, matcher, guided
        self._param = SamplingParam.from_gen_config(gen_config=config)
        self._banned = list(config.bad_token_ids or []) + (ends if config.ignore_eos and ban_ends else [])
        self._ends = [] if config.ignore_eos else ends
        self._ids = list(prompt)
        self._random = torch.Generator()
        self._random.manual_seed(self._param.random_seed % 2**63)
        self._count = 0

    def __call__(self, logits):
        """Return the next token, and lmdeploy's row of log-probabilities if the request wants it.

        Args:
            logits: One row; modified in place.
        """
        raw = logits.log_softmax(-1)
        token = self._pick(self._filtered(logits))
        self._ids.append(token)
        self._count += 1
        if self._matcher is not None and not self._matcher.is_terminated():
            self._matcher.accept_token(token)
        return token, self._logprobs(raw[0], token)

    def _filtered(self, scores):
        param = self._param
        if self._matcher is not None and not self._matcher.is_terminated():
            mask = self._guided.allocate_batched_bitmap(1)
            self._guided.fill_bitmap(self._matcher, mask, 0)
            self._guided.apply_batched_bitmap(scores, mask)
        for process in self._config.logits_processors or []:
            scores[0] = process(torch.tensor(self._ids), scores[0])
        if param.repetition_penalty != 1.0:
            ids, penalty = torch.tensor([self._ids]), torch.tensor([param.repetition_penalty])
            scores = logits_process._process_repetition_penalty_(scores, ids, penalty)
        scores = logits_process._process_temperature_(scores, torch.tensor([param.temperature]))
        banned = self._banned + (self._ends if self._count < param.min_new_tokens else [])
        if banned:
            scores[:, banned] = -float("inf")
        return scores

    def _pick(self, scores):
        param = self._param
        if param.top_k == 1:
            return int(scores.argmax(-1))
        scores, order = scores.sort(1, descending=True)
        if param.top_k > 0:
            scores = logits_process._filter_topk_sorted_(scores, torch.tensor([param.top_k]))
        scores = logits_process._filter_topp_sorted_(scores, torch.tensor([param.top_p]))
        scores = logits_process._filter_minp_sorted_(scores, torch.tensor([param.min_p]))
        return int(order[0, torch.multinomial(scores.softmax(1)[0], 1, generator=self._random)])

    def _logprobs(self, row, token):
        count = self._config.logprobs
        if count is None:
            return None
        top = row.topk(count) if count else None
        best = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else {}
        return [{token: row[token].item(), **best}]
