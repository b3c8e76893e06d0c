"""Load the weights of a checkpoint into the layout of `model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError
from .config import ModelConfig
from .dequantize import open_checkpoint
from .lora import LoraAdapter
from .model import LayerWeights, ModelWeights

__all__ = ["load_weights"]

HostArray = np.ndarray[Any, Any]


#: Buffers in checkpoints of older programs; the engine computes them.
_BUFFERS = (".rotary_emb.inv_freq",)


class _Reader:
    """Tensors of a checkpoint by name, dequantized, with the adapter merged."""

    def __init__(self, path: Path, config: ModelConfig, adapter: LoraAdapter | None) -> None:
        self._path, self._tensors = path, open_checkpoint(path, config.quantization)
        self._adapter = adapter
        self._unused = {name for name in self._tensors.names if not name.endswith(_BUFFERS)}

    def get(self, name: str, *shape: int) -> HostArray:
        return self.merged(name, self._read(name, shape))

    def merged(self, name: str, tensor: HostArray) -> HostArray:
        """Return `tensor` with the adapter's update of `name`; itself if there is none."""
        return tensor if self._adapter is None else self._adapter.merge(name, tensor)

    def embedding_and_head(
        self, config: ModelConfig, embed_name: str, head_name: str
    ) -> tuple[HostArray, HostArray | None]:
        """Read both matrices; the second is None if it is the first.

        As in transformers 5, a tied network with another matrix in its file or adapter is not tied.
        """
        shape = config.vocab_size, config.hidden_size
        embed = self._read(embed_name, shape)
        head = embed
        if not config.tied or head_name in self._tensors.names:
            head = self._read(head_name, shape)
            head = embed if config.tied and np.array_equal(embed, head) else head
        embed, head = self.merged(embed_name, embed), self.merged(head_name, head)
        return embed, None if config.tied and (head is embed or np.array_equal(head, embed)) else head

    def check_used(self) -> None:
        """Check that every tensor of the checkpoint was read."""
        if self._unused:
            raise ModelLoadError(
                f"{self._path}: config.json describes a network without the tensor "
                f"{sorted(self._unused)[0]!r}"
                + (f" and {len(self._unused) - 1} more" * (len(self._unused) > 1))
            )

    def _read(self, name: str, shape: tuple[int, ...]) -> HostArray:
        self._unused.discard(name)
        return self._tensors.get(name, shape)


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
    reader = _Reader(path, config, lora)
    internlm = config.architecture == "InternLM2ForCausalLM"
    layer = _internlm2_layer if internlm else _llama_layer

    def put(name: str, array: HostArray | None) -> Any:
        return None if array is None else shard(name, np.ascontiguousarray(array.astype(dtype, copy=False)))

    names = ("tok_embeddings", "output") if internlm else ("embed_tokens", "lm_head")
    embed, head = reader.embedding_and_head(config, f"model.{names[0]}.weight", f"{names[1]}.weight")
    weights = ModelWeights(
        embed=put("embed", embed),
        layers=tuple(
            LayerWeights(**{name: put(name, array) for name, array in layer(reader, config, index).items()})
            for index in range(config.num_layers)
        ),
        norm=put("norm", reader.get("model.norm.weight", config.hidden_size)),
        head=None if head is None else put("head", head.T),
    )
    reader.check_used()
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
        "qkv_bias": fused("bias") if config.qkv_bias else None,
        "qk_norm": qk_norm,
        "out": reader.get(f"{prefix}self_attn.o_proj.weight", hidden, kv * group * dim).T,
        "out_bias": reader.get(f"{prefix}self_attn.o_proj.bias", hidden) if config.out_bias else None,
        "mlp_norm": reader.get(f"{prefix}post_attention_layernorm.weight", hidden),
        "gate_up": np.moveaxis(gate_up("weight", hidden), -1, 0),
        "gate_up_bias": gate_up("bias") if config.mlp_bias else None,
        "down": reader.get(f"{prefix}mlp.down_proj.weight", hidden, inner).T,
        "down_bias": reader.get(f"{prefix}mlp.down_proj.bias", hidden) if config.mlp_bias else None,
    }


def _internlm2_layer(reader: _Reader, config: ModelConfig, index: int) -> dict[str, HostArray | None]:
    """Read one layer of InternLM2, whose wqkv is already grouped by key-value head."""
    prefix = f"model.layers.{index}."
    hidden, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    kv, group = config.num_kv_heads, config.group
    wqkv = reader.get(f"{prefix}attention.wqkv.weight", kv * (group + 2) * dim, hidden)
    bias = reader.get(f"{prefix}attention.wqkv.bias", kv * (group + 2) * dim) if config.qkv_bias else None
    gate, up = (reader.get(f"{prefix}feed_forward.{name}.weight", inner, hidden) for name in ("w1", "w3"))
    return {
        "attention_norm": reader.get(f"{prefix}attention_norm.weight", hidden),
        "qkv": np.moveaxis(wqkv.reshape(kv, group + 2, dim, hidden), -1, 0),
        "qkv_bias": None if bias is None else bias.reshape(kv, group + 2, dim),
        "qk_norm": None,
        "out": reader.get(f"{prefix}attention.wo.weight", hidden, kv * group * dim).T,
        "out_bias": reader.get(f"{prefix}attention.wo.bias", hidden) if config.out_bias else None,
        "mlp_norm": reader.get(f"{prefix}ffn_norm.weight", hidden),
        "gate_up": np.moveaxis(np.stack([gate, up]), -1, 0),
        "gate_up_bias": None,
        "down": reader.get(f"{prefix}feed_forward.w2.weight", hidden, inner).T,
        "down_bias": None,
    }
