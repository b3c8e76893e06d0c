"""The trainer's own Llama network: flat token streams in, logits for chosen tokens out.

Dialogs of different lengths share one step without padding one another: every layer works on one flat
stream of tokens, and only attention looks at the stream as groups of equally long rows.  Parameter
names are those of Hugging Face's ``LlamaForCausalLM``, so that a state dict is a checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Groups = tuple[tuple[int, int], ...]
"""``(rows, row length)`` of each group of rows in a flat token stream."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network."""

    vocab_size: int = 1024
    hidden_size: int = 192
    intermediate_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 3
    head_dim: int = 32
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048

    def to_hugging_face(self, bos: int, eos: list[int], pad: int) -> dict[str, Any]:
        """Return the contents of ``config.json`` for a checkpoint of this network."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "rope_scaling": None,
            "tie_word_embeddings": True,
            "use_cache": True,
            "torch_dtype": "float32",
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
        }


def rotary_tables(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine tables, each ``(length, head_dim)``."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), config.rope_theta**-exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head of ``x`` ``(tokens, heads, head_dim)`` by its position."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each token."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Causal attention with grouped key and value heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        q_size = config.num_attention_heads * config.head_dim
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each ``(tokens, heads, head_dim)``."""
        total, config = x.shape[0], self.config
        q = self.q_proj(x).view(total, config.num_attention_heads, config.head_dim)
        k = self.k_proj(x).view(total, config.num_key_value_heads, config.head_dim)
        v = self.v_proj(x).view(total, config.num_key_value_heads, config.head_dim)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        return rotate(q, cos, sin), rotate(k, cos, sin), v


def attend(q: Tensor, k: Tensor, v: Tensor, groups: Groups) -> Tensor:
    """Attend within each row; plain matrix products are faster here than CPU flash attention's backward.

    The query heads of one key head are stacked, so that keys and values need no copies.
    """
    sizes = [rows * length for rows, length in groups]
    outputs = []
    for (rows, length), *parts in zip(groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
        if length == 1:
            outputs.append(torch.zeros_like(parts[0]).flatten(1))
            continue
        kv_heads, size = parts[1].shape[1:]
        share = parts[0].shape[1] // kv_heads
        heads = [t.view(rows, length, -1, size).transpose(1, 2) for t in parts]
        stacked = heads[0].reshape(rows * kv_heads, share * length, size)
        keys, values = (t.reshape(rows * kv_heads, length, size) for t in heads[1:])
        mask = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        mask = mask.repeat(share, 1).expand(rows * kv_heads, -1, -1)
        scores = torch.baddbmm(mask, stacked, keys.transpose(1, 2), alpha=size**-0.5)
        out = torch.bmm(torch.softmax(scores, dim=-1), values).view(rows, kv_heads * share, length, size)
        outputs.append(out.transpose(1, 2).reshape(rows * length, -1))
    return torch.cat(outputs)


class MLP(nn.Module):
    """Gated feed-forward part of a layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer up to the attention."""
        return self.self_attn.project(self.input_layernorm(x), cos, sin)

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the rest of the layer, from the attention on."""
        x = x + self.self_attn.o_proj(attended)
        return x + self.mlp(self.post_attention_layernorm(x))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, groups: Groups) -> Tensor:
        """Run the layer on the whole stream."""
        q, k, v = self.before(x, cos, sin)
        with torch.autocast(x.device.type, enabled=False):
            attended = attend(q, k, v, groups)
        return self.after(x, attended)


class Decoder(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rotary_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor, groups: Groups, chosen: Tensor) -> Tensor:
        """Return the last hidden states of the chosen tokens."""
        tables = []
        for table in (self.cos, self.sin):
            tables.append(torch.cat([table[:length].repeat(rows, 1) for rows, length in groups])[:, None])
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, tables[0], tables[1], groups)
        return self.norm(x[chosen])


class Llama(nn.Module):
    """The whole network with tied embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        residual_scale = (2 * config.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith("embed_tokens.weight"):
                nn.init.normal_(parameter, std=0.02)
            elif parameter.ndim == 2:
                std = parameter.shape[1] ** -0.5
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=std * (residual_scale if residual else 1.0))

    def forward(self, tokens: Tensor, groups: Groups, chosen: Tensor) -> Tensor:
        """Return the logits of the stream's ``chosen`` tokens.

        Args:
            tokens: The flat token stream.
            groups: How the stream is cut into rows.
            chosen: Indices into the stream; only these get logits.
        """
        return F.linear(self.model(tokens, groups, chosen), self.model.embed_tokens.weight)
