"""Load the weights of a checkpoint into the layout of `model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .config import ModelConfig
from .lora import LoraAdapter
from .model import LayerWeights, ModelWeights
from .tensors import Tensors, checkpoint_files

__all__ = ["load_weights"]

HostArray = np.ndarray[Any, Any]


class _Reader:
    """Tensors of a checkpoint by name, with the adapter merged."""

    def __init__(self, path: Path, adapter: LoraAdapter | None) -> None:
        self._tensors = Tensors(checkpoint_files(path))
        self._adapter = adapter

    def has(self, name: str) -> bool:
        return name in self._tensors.names

    def get(self, name: str, *shape: int) -> HostArray:
        tensor = self._tensors.get(name, shape)
        delta = self._adapter.delta(name, shape) if self._adapter else None
        return tensor if delta is None else tensor.astype(np.float32) + delta

    def bias(self, name: str, *shape: int) -> HostArray | None:
        return self.get(name, *shape) if self.has(name) else None


def load_weights(
    path: Path, config: ModelConfig, dtype: Any, adapter: Path | None, shard: Callable[[str, HostArray], Any]
) -> ModelWeights:
    """Load all weights.

    Args:
        path: Checkpoint directory.
        config: Configuration of the network.
        dtype: NumPy type of the arrays.
        adapter: Directory of a PEFT LoRA adapter to merge, or None.
        shard: Transfers the array of a field (by its name in `LayerWeights` or `ModelWeights`) to the device.

    Raises:
        ModelLoadError: Files or tensors are missing or damaged, or a tensor has the wrong shape.
    """
    lora = LoraAdapter(adapter) if adapter is not None else None
    reader = _Reader(path, lora)
    internlm = config.architecture == "InternLM2ForCausalLM"
    layer = _internlm2_layer if internlm else _llama_layer

    def put(name: str, array: HostArray | None) -> Any:
        return None if array is None else shard(name, np.ascontiguousarray(array.astype(dtype, copy=False)))

    vocab, hidden = config.vocab_size, config.hidden_size
    weights = ModelWeights(
        embed=put(
            "embed",
            reader.get(f"model.{'tok_embeddings' if internlm else 'embed_tokens'}.weight", vocab, hidden),
        ),
        layers=tuple(
            LayerWeights(**{name: put(name, array) for name, array in layer(reader, config, index).items()})
            for index in range(config.num_layers)
        ),
        norm=put("norm", reader.get("model.norm.weight", hidden)),
        head=None
        if config.tied
        else put("head", reader.get(f"{'output' if internlm else 'lm_head'}.weight", vocab, hidden).T),
    )
    if lora is not None:
        lora.check_used()
    return weights


def _llama_layer(reader: _Reader, config: ModelConfig, index: int) -> dict[str, HostArray | None]:
    """Read one layer of Llama, Mistral or Qwen; field of `LayerWeights` to array."""
    prefix = f"model.layers.{index}."
    hidden, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    kv, group = config.num_kv_heads, config.group

    def fused(kind: str, *tail: int) -> HostArray:
        """Fuse q, k and v to (kv heads, group + 2, head_dim, *tail)."""
        q = reader.get(f"{prefix}self_attn.q_proj.{kind}", kv * group * dim, *tail)
        k = reader.get(f"{prefix}self_attn.k_proj.{kind}", kv * dim, *tail)
        v = reader.get(f"{prefix}self_attn.v_proj.{kind}", kv * dim, *tail)
        split = (q.reshape(kv, group, dim, *tail), k.reshape(kv, 1, dim, *tail), v.reshape(kv, 1, dim, *tail))
        return np.concatenate(split, axis=1)

    def gate_up(kind: str, *tail: int) -> HostArray:
        return np.stack(
            [reader.get(f"{prefix}mlp.{side}_proj.{kind}", inner, *tail) for side in ("gate", "up")]
        )

    qk_norm = None
    if config.qk_norm:
        q_norm = reader.get(f"{prefix}self_attn.q_norm.weight", dim)
        k_norm = reader.get(f"{prefix}self_attn.k_norm.weight", dim)
        qk_norm = np.stack([q_norm] * group + [k_norm])
    return {
        "attention_norm": reader.get(f"{prefix}input_layernorm.weight", hidden),
        "qkv": np.moveaxis(fused("weight", hidden), -1, 0),
        "qkv_bias": fused("bias") if reader.has(f"{prefix}self_attn.q_proj.bias") else None,
        "qk_norm": qk_norm,
        "out": reader.get(f"{prefix}self_attn.o_proj.weight", hidden, kv * group * dim).T,
        "out_bias": reader.bias(f"{prefix}self_attn.o_proj.bias", hidden),
        "mlp_norm": reader.get(f"{prefix}post_attention_layernorm.weight", hidden),
        "gate_up": np.moveaxis(gate_up("weight", hidden), -1, 0),
        "gate_up_bias": gate_up("bias") if reader.has(f"{prefix}mlp.gate_proj.bias") else None,
        "down": reader.get(f"{prefix}mlp.down_proj.weight", hidden, inner).T,
        "down_bias": reader.bias(f"{prefix}mlp.down_proj.bias", hidden),
    }


def _internlm2_layer(reader: _Reader, config: ModelConfig, index: int) -> dict[str, HostArray | None]:
    """Read one layer of InternLM2, whose wqkv is already grouped by key-value head."""
    prefix = f"model.layers.{index}."
    hidden, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    kv, group = config.num_kv_heads, config.group
    wqkv = reader.get(f"{prefix}attention.wqkv.weight", kv * (group + 2) * dim, hidden)
    bias = reader.bias(f"{prefix}attention.wqkv.bias", kv * (group + 2) * dim)
    gate, up = (reader.get(f"{prefix}feed_forward.{name}.weight", inner, hidden) for name in ("w1", "w3"))
    return {
        "attention_norm": reader.get(f"{prefix}attention_norm.weight", hidden),
        "qkv": np.moveaxis(wqkv.reshape(kv, group + 2, dim, hidden), -1, 0),
        "qkv_bias": None if bias is None else bias.reshape(kv, group + 2, dim),
        "qk_norm": None,
        "out": reader.get(f"{prefix}attention.wo.weight", hidden, kv * group * dim).T,
        "out_bias": reader.bias(f"{prefix}attention.wo.bias", hidden),
        "mlp_norm": reader.get(f"{prefix}ffn_norm.weight", hidden),
        "gate_up": np.moveaxis(np.stack([gate, up]), -1, 0),
        "gate_up_bias": None,
        "down": reader.get(f"{prefix}feed_forward.w2.weight", hidden, inner).T,
        "down_bias": None,
    }
