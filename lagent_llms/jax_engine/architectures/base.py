"""What a file of this package states about its architecture, and the readers that several files share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..rope import read_rope
from ..settings import Settings

__all__ = [
    "Architecture",
    "Layout",
    "Sizes",
    "attention_biases",
    "layer_windows",
    "no_windows",
    "one_rope",
    "one_window",
]

_FULL, _SLIDING = "full_attention", "sliding_attention"


class Sizes(NamedTuple):
    """Sizes that every network has; fields of `ModelConfig`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a checkpoint are.

    Names are without ".weight" and ".bias", those of a layer without its prefix; None for what the network
    does not have.

    Attributes:
        embed: The embedding.
        norm: The norm after the last layer.
        head: The output projection.
        layer: Prefix of layer ``{index}``.
        attention_norm: Norm before the attention.
        qkv: Projections to queries, keys and values: three tensors, or one with their rows after each other.
        qkv_by_head: True if the one tensor has the rows of each key-value head together, its queries first.
        q_norm: Norm of the queries.
        k_norm: Norm of the keys.
        out: Output projection of the attention.
        post_attention_norm: Norm after the attention.
        mlp_norm: Norm before the MLP.
        gate_up: Gate and up projection of the MLP: two tensors, or one with their rows after each other.
        down: Down projection of the MLP.
        post_mlp_norm: Norm after the MLP.
        router: Scores of the experts.
        expert: Prefix of expert ``{index}``; its projections are named as `expert_gate_up`, `expert_down`.
        shared: Prefix of the expert that every token passes, with projections named alike.
        shared_gate: Weight of that expert.
        norm_offset: What the network adds to the weight of each norm.
        float32_norms: True if the product with a norm's weight is computed in float32.
    """

    embed: str = "model.embed_tokens"
    norm: str = "model.norm"
    head: str = "lm_head"
    layer: str = "model.layers.{index}."
    attention_norm: str | None = "input_layernorm"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    qkv_by_head: bool = False
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    out: str = "self_attn.o_proj"
    post_attention_norm: str | None = None
    mlp_norm: str | None = "post_attention_layernorm"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    post_mlp_norm: str | None = None
    router: str = "mlp.gate"
    expert: str = "mlp.experts.{index}."
    expert_gate_up: tuple[str, ...] = ("gate_proj", "up_proj")
    expert_down: str = "down_proj"
    shared: str = "mlp.shared_expert."
    shared_gate: str = "mlp.shared_expert_gate"
    norm_offset: float = 0.0
    float32_norms: bool = False


@dataclass(frozen=True)
class Architecture:
    """One architecture. What is not said is as in Llama.

    Attributes:
        name: Its name in config.json's `architectures`.
        model_type: Its name in config.json's `model_type`.
        fields: Fields of `ModelConfig` by the contents of config.json and the network's sizes; fields that
            are not returned have their default.
        defaults: Values of absent keys of config.json.
        activation: Activation of the MLP; `silu` or `gelu_tanh`.
        layout: Where the tensors are.
    """

    name: str
    model_type: str
    fields: Callable[[Settings, Sizes], dict[str, Any]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "silu"
    layout: Layout = field(default_factory=Layout)


def one_rope(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of a network with the same rotary embedding in every layer."""
    return {"ropes": (read_rope(keys, sizes.head_dim, sizes.max_positions),) * sizes.num_layers}


def attention_biases(keys: Settings) -> dict[str, Any]:
    """Fields of a network with a bias in all projections of the attention, or in none."""
    bias = keys.flag("attention_bias")
    return {"qkv_bias": bias, "out_bias": bias}


def layer_windows(
    keys: Settings, sizes: Sizes, window: int | None, usual: Sequence[bool]
) -> tuple[int | None, ...]:
    """Sliding window of each layer, by `layer_types` or, without them, where `usual` is true.

    Raises:
        ModelLoadError: `layer_types` is wrong, or has windows that the network does not have.
    """
    kinds = _layer_types(keys, sizes)
    if window is None and _SLIDING in (kinds or ()):
        keys.fail("layer_types", f"{_FULL!r} without a sliding window")
    slides = usual if kinds is None else [kind == _SLIDING for kind in kinds]
    return tuple(window if one else None for one in slides)


def one_window(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of a network whose layers all have the window `sliding_window`, if there is one.

    Raises:
        ModelLoadError: `layer_types` says otherwise.
    """
    window = keys.integer("sliding_window", None)
    usual = (_FULL if window is None else _SLIDING,) * sizes.num_layers
    if _layer_types(keys, sizes) not in (None, usual):
        keys.fail("layer_types", f"{usual[0]!r} for all layers with sliding_window={window}")
    return {"windows": (window,) * sizes.num_layers}


def no_windows(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of a network without windows.

    Raises:
        ModelLoadError: The config has a window: without one of the keys that switch it off, programs disagree
            whether such a network has it.
    """
    kinds, window = _layer_types(keys, sizes), keys.integer("sliding_window", None)
    if _SLIDING in (kinds or ()):
        keys.fail("layer_types", f"{_FULL!r} without a sliding window")
    switched_off = kinds is not None or not keys.flag("use_sliding_window", True)
    if window is not None and window < sizes.max_positions and not switched_off:
        keys.fail("sliding_window", "null (this architecture has none; or add use_sliding_window=false)")
    return {"windows": (None,) * sizes.num_layers}


def _layer_types(keys: Settings, sizes: Sizes) -> tuple[str, ...] | None:
    kinds = keys.texts("layer_types")
    if kinds is not None and (len(kinds) != sizes.num_layers or not set(kinds) <= {_FULL, _SLIDING}):
        keys.fail("layer_types", f"a list of {sizes.num_layers} times {_FULL!r} or {_SLIDING!r}")
    return kinds
