"""Read the tensors of one decoder layer, where the architecture's `Layout` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .architectures import Experts
from .config import ModelConfig
from .experts import ExpertWeights
from .model import LayerWeights

__all__ = ["read_layer"]

HostArray: TypeAlias = np.ndarray[Any, Any]


def read_layer(
    config: ModelConfig,
    index: int,
    get: Callable[..., HostArray],
    put: Callable[[str, HostArray | None], Any],
) -> LayerWeights:
    """Read one layer.

    Args:
        config: The network.
        index: Index of the layer.
        get: Returns a tensor by its name and shape.
        put: Transfers the array of a field of `LayerWeights` or `ExpertWeights` to the device.

    Raises:
        ModelLoadError: A tensor is missing or has the wrong shape.
    """
    layer = _Layer(config, index, get)
    layout, hidden = config.layout, config.hidden_size
    fields: dict[str, HostArray | None] = {
        "attention_norm": layer.norm(layout.attention_norm),
        "qkv": np.moveaxis(layer.qkv("weight", hidden), -1, 0),
        "qkv_bias": layer.qkv("bias") if config.qkv_bias else None,
        "qk_norm": layer.qk_norm(),
        "out": layer.read(f"{layout.out}.weight", hidden, config.num_heads * config.head_dim).T,
        "out_bias": layer.read(f"{layout.out}.bias", hidden) if config.out_bias else None,
        "post_attention_norm": layer.norm(layout.post_attention_norm),
        "mlp_norm": layer.norm(layout.mlp_norm),
        "gate_up": None,
        "gate_up_bias": None,
        "down": None,
        "down_bias": None,
        "post_mlp_norm": layer.norm(layout.post_mlp_norm),
    }
    experts = None
    if config.experts is None or index not in config.experts.layers:
        fields["gate_up"], fields["down"] = layer.mlp("", config.intermediate_size)
        if config.mlp_bias:
            fields["gate_up_bias"], fields["down_bias"] = layer.mlp_bias()
    else:
        if config.experts.shared_size is not None:
            fields["gate_up"], fields["down"] = layer.mlp(layout.shared, config.experts.shared_size)
        arrays = layer.experts(config.experts)
        experts = ExpertWeights(**{name: put(name, array) for name, array in arrays.items()})
    return LayerWeights(**{name: put(name, array) for name, array in fields.items()}, experts=experts)


class _Layer:
    """The tensors of a layer in the shapes of `LayerWeights`."""

    def __init__(self, config: ModelConfig, index: int, get: Callable[..., HostArray]) -> None:
        self._config, self._layout, self._get = config, config.layout, get
        self._prefix = self._layout.layer.format(index=index)

    def read(self, name: str, *shape: int) -> HostArray:
        """Read a tensor of the layer."""
        return self._get(f"{self._prefix}{name}", *shape)

    def norm(self, name: str | None) -> HostArray | None:
        return None if name is None else self.read(f"{name}.weight", self._config.hidden_size)

    def qkv(self, kind: str, *tail: int) -> HostArray:
        """Queries, keys and values by key-value head, (K, G + 2, D, *tail)."""
        kv, group, dim = self._config.num_kv_heads, self._config.group, self._config.head_dim
        if self._layout.qkv_by_head:
            (by_head,) = self._rows(self._layout.qkv, kind, (kv * (group + 2) * dim,), *tail)
            return by_head.reshape(kv, group + 2, dim, *tail)
        q, k, v = self._rows(self._layout.qkv, kind, (kv * group * dim, kv * dim, kv * dim), *tail)
        parts = (q.reshape(kv, group, dim, *tail), *(part.reshape(kv, 1, dim, *tail) for part in (k, v)))
        return np.concatenate(parts, axis=1)

    def qk_norm(self) -> HostArray | None:
        kv, group, dim = self._config.num_kv_heads, self._config.group, self._config.head_dim
        if self._config.qk_norm is None:
            return None
        heads, queries = (kv, kv * group) if self._config.qk_norm == "width" else (1, 1)
        q = self.read(f"{self._layout.q_norm}.weight", queries * dim)
        k = self.read(f"{self._layout.k_norm}.weight", heads * dim)
        if self._config.qk_norm == "head":
            return np.stack([q] * group + [k])
        return np.concatenate([q.reshape(kv, group, dim), k.reshape(kv, 1, dim)], axis=1)

    def mlp(self, prefix: str, size: int) -> tuple[HostArray, HostArray]:
        """Gate and up projection (H, 2, size), and down projection (size, H)."""
        hidden, layout = self._config.hidden_size, self._layout
        names = tuple(prefix + name for name in (layout.expert_gate_up if prefix else layout.gate_up))
        down = prefix + layout.expert_down if prefix else layout.down
        gate_up = np.stack(self._rows(names, "weight", (size, size), hidden))
        return np.moveaxis(gate_up, -1, 0), self.read(f"{down}.weight", hidden, size).T

    def mlp_bias(self) -> tuple[HostArray, HostArray]:
        """Biases of the gate and up projection (2, I), and of the down projection (H,)."""
        size = self._config.intermediate_size
        gate_up = np.stack(self._rows(self._layout.gate_up, "bias", (size, size)))
        return gate_up, self.read(f"{self._layout.down}.bias", self._config.hidden_size)

    def experts(self, experts: Experts) -> dict[str, HostArray | None]:
        """Fields of `ExpertWeights`."""
        hidden, layout = self._config.hidden_size, self._layout
        every = [
            self.mlp(layout.expert.format(index=index), experts.size) for index in range(experts.per_layer)
        ]
        shared = experts.shared_size is not None
        return {
            "router": self.read(f"{layout.router}.weight", experts.per_layer, hidden).T,
            "expert_gate_up": np.stack([gate_up for gate_up, _ in every]),
            "expert_down": np.stack([down for _, down in every]),
            "shared_gate": self.read(f"{layout.shared_gate}.weight", 1, hidden)[0] if shared else None,
        }

    def _rows(self, names: tuple[str, ...], kind: str, sizes: tuple[int, ...], *tail: int) -> list[HostArray]:
        """Read tensors with these numbers of rows, from a tensor each or a common one."""
        if len(names) == 1:
            return np.split(self.read(f"{names[0]}.{kind}", sum(sizes), *tail), np.cumsum(sizes[:-1]))
        return [self.read(f"{name}.{kind}", size, *tail) for name, size in zip(names, sizes, strict=True)]
