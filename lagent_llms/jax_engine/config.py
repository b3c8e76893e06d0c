"""Read and validate the network's configuration in a checkpoint's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelLoadError
from .architectures import ARCHITECTURES, Architecture, Experts, Layout, Sizes
from .quantization import Quantization, read_quantization
from .rope import Rope
from .settings import Settings, read_json

__all__ = ["ARCHITECTURES", "ModelConfig"]

_MAX_LAYERS = 100_000
_BY_MODEL_TYPE = {architecture.model_type: name for name, architecture in ARCHITECTURES.items()}

#: Names of each activation in config.json.
_ACTIVATIONS = {"silu": ("silu", "swish"), "gelu_tanh": ("gelu_pytorch_tanh",)}


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of a network. Hashable, so that it can be static under jit.

    Attributes:
        architecture: A key of `ARCHITECTURES`.
        vocab_size: Number of rows of the embedding.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_layers: Number of decoder layers.
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; each serves num_heads / num_kv_heads query heads.
        head_dim: Dimension of one head.
        max_positions: Longest context of the model, in tokens.
        norm_eps: Epsilon of every RMSNorm.
        tied: True if the output projection is the embedding, unless the checkpoint has one of its own.
        bos_token_id: Beginning-of-sequence token, None if there is none.
        eos_token_ids: Tokens that end an answer.
        activation: Activation of the MLP, 'silu' or 'gelu_tanh'.
        attention_scale: Factor of the attention scores.
        ropes: Rotary position embedding of each layer, None for none.
        windows: Sliding window of each layer in tokens, None for full attention.
        qkv_bias: True if the projections to queries, keys and values have a bias.
        out_bias: True if the output projection of the attention has a bias.
        mlp_bias: True if the projections of the MLP have a bias.
        qk_norm: Whether queries and keys are normalized: per head, or all heads ('width') at once.
        attention_softcap: Bound c of the attention scores x, as c * tanh(x / c); None for none.
        embed_scale: Factor of the embedding of a token.
        residual_scale: Factor of the output of each block before it is added.
        logit_divisor: Divisor of the logits.
        logit_softcap: Bound of the logits, as `attention_softcap`.
        experts: Experts in place of the MLP; None for none.
        quantization: How the weights in the files are quantized, None if they are plain numbers; the network
            is the same, so configurations that differ only here are equal.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    norm_eps: float
    tied: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    activation: str
    attention_scale: float
    ropes: tuple[Rope | None, ...]
    windows: tuple[int | None, ...]
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["head", "width"] | None = None
    attention_softcap: float | None = None
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    logit_softcap: float | None = None
    experts: Experts | None = None
    quantization: Quantization | None = field(default=None, compare=False)

    @property
    def group(self) -> int:
        """Number of query heads per key-value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def rope_switch(self) -> int | None:
        """Longest sequence with `Rope.frequencies`, in tokens; None if every sequence has them."""
        switches = (rope.switch for rope in self.ropes if rope is not None)
        return min((switch for switch in switches if switch is not None), default=None)

    @property
    def layout(self) -> Layout:
        """Where the checkpoint's tensors are."""
        return ARCHITECTURES[self.architecture].layout

    @classmethod
    def from_directory(cls, path: Path) -> ModelConfig:
        """Read ``config.json`` of a checkpoint directory.

        Raises:
            ModelLoadError: The file is missing, not valid, or the network is not supported.
        """
        if not path.is_dir():
            raise ModelLoadError(f"{path} is not a directory; expected a Hugging Face checkpoint")
        if not (path / "config.json").is_file():
            raise ModelLoadError(f"{path}: there is no config.json")
        return cls.from_dict(read_json(path / "config.json"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Convert the contents of a config.json.

        Raises:
            ModelLoadError: A key is missing or has a wrong value, or the network is not supported.
        """
        architecture = _architecture(Settings(data, "config.json"))
        keys = Settings({**architecture.defaults, **data}, f"config.json: {architecture.name}")
        sizes = _sizes(keys)
        fields: dict[str, Any] = {
            "norm_eps": keys.number("rms_norm_eps", 1e-6),
            "tied": keys.flag("tie_word_embeddings"),
            "bos_token_id": keys.integer("bos_token_id", None, least=0),
            "eos_token_ids": keys.token_ids("eos_token_id"),
            "activation": architecture.activation,
            "attention_scale": sizes.head_dim**-0.5,
            "windows": (None,) * sizes.num_layers,
            "quantization": read_quantization(keys),
        }
        return cls(architecture.name, **sizes._asdict(), **fields | architecture.fields(keys, sizes))


def _architecture(keys: Settings) -> Architecture:
    """The architecture; `architectures` and `model_type` must agree, since programs read either."""
    by_type = _BY_MODEL_TYPE.get(keys.text("model_type", ""), keys.get("model_type"))
    named = (keys.texts("architectures") or (by_type,))[0]
    if named not in ARCHITECTURES:
        raise ModelLoadError(
            f"config.json: architecture {named!r} is not supported; allowed are {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[named]
    if by_type not in (None, named):
        keys.fail("model_type", f"{architecture.model_type!r} with architecture {named}")
    names = _ACTIVATIONS[architecture.activation]
    for key in ("hidden_act", "hidden_activation"):
        if keys.text(key, names[0]) not in names:
            keys.fail(key, repr(names[0]))
    return architecture


def _sizes(keys: Settings) -> Sizes:
    heads, hidden = keys.integer("num_attention_heads"), keys.integer("hidden_size")
    layers = keys.integer("num_hidden_layers", most=_MAX_LAYERS)
    kv_heads = keys.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        keys.fail("num_key_value_heads", f"a divisor of num_attention_heads={heads}")
    if (head_dim := keys.integer("head_dim", None)) is None:
        head_dim = hidden // heads
        if hidden % heads:
            keys.fail("hidden_size", f"a multiple of num_attention_heads={heads}")
    if head_dim % 2:  # dimensions rotate in pairs
        keys.fail("head_dim", "an even number")
    return Sizes(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size"),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=keys.integer("max_position_embeddings", 2048),
    )
