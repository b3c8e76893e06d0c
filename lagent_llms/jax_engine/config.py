"""Read and validate the network's configuration in a checkpoint's config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError
from .quantization import Quantization, read_quantization
from .settings import Settings, read_json

__all__ = ["ARCHITECTURES", "ModelConfig", "Rope"]

#: Supported architectures, as named in config.json.
ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "InternLM2ForCausalLM",
)

_FULL, _SLIDING = "full_attention", "sliding_attention"
_MAX_LAYERS = 100_000
_MODEL_TYPES = {name.removesuffix("ForCausalLM").lower(): name for name in ARCHITECTURES}


#: Values of absent keys that differ from those of Llama, as in each architecture's own code.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "MistralForCausalLM": {
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "Qwen2ForCausalLM": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096},
    "Qwen3ForCausalLM": {
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "head_dim": 128,
    },
    "InternLM2ForCausalLM": {"bias": True},
}


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (arXiv 2104.09864).

    Attributes:
        theta: Base of the geometric series of wavelengths.
        kind: 'default', 'linear' or 'llama3'.
        factor: Scaling factor of the wavelengths ('linear', 'llama3').
        low_freq_factor: Wavelengths above original_length / this are scaled fully ('llama3').
        high_freq_factor: Wavelengths below original_length / this are not scaled ('llama3').
        original_length: Context length before scaling, in tokens ('llama3').
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    @classmethod
    def from_config(cls, config: Settings) -> Rope:
        """Read ``rope_parameters`` (transformers 5), or ``rope_theta`` and ``rope_scaling`` (earlier).

        Raises:
            ModelLoadError: The RoPE variant is not supported, or a value is wrong.
        """
        name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        table = config.table(name)
        theta = table.number("rope_theta", config.number("rope_theta", 10000.0))
        kind = table.text("rope_type", None) or table.text("type", "default")
        for settings in (table, config):
            if settings.number("partial_rotary_factor", 1.0) != 1:
                settings.fail("partial_rotary_factor", "1")
        for key, value in table.items():
            if isinstance(value, dict):  # a table for each kind of layer
                table.fail(key, "a number or a string")
        if kind in ("default", "dynamic"):
            # Dynamic NTK has no effect up to max_position_embeddings, the limit of this engine.
            return cls(theta)
        if kind == "linear":
            return cls(theta, kind, table.number("factor"))
        if kind == "llama3":
            rope = cls(
                theta,
                kind,
                table.number("factor"),
                table.number("low_freq_factor"),
                table.number("high_freq_factor"),
                table.integer("original_max_position_embeddings"),
            )
            if rope.high_freq_factor <= rope.low_freq_factor:
                table.fail("high_freq_factor", f"a number above low_freq_factor={rope.low_freq_factor}")
            return rope
        raise ModelLoadError(
            f"config.json: RoPE scaling {kind!r} is not supported; "
            "allowed are default, dynamic, linear, llama3"
        )

    def inverse_frequencies(self, head_dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Radians per position of each pair of dimensions, (head_dim / 2,) float32."""
        frequencies = self.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        if self.kind == "linear":
            frequencies = frequencies / self.factor
        elif self.kind == "llama3":
            wavelengths = 2 * math.pi / frequencies
            low, high = self.low_freq_factor, self.high_freq_factor
            smooth = np.clip((self.original_length / wavelengths - low) / (high - low), 0.0, 1.0)
            frequencies = (1 - smooth) * frequencies / self.factor + smooth * frequencies
        return frequencies.astype(np.float32)


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of a network of the Llama family. Hashable, so that it can be static under jit.

    Attributes:
        architecture: One of `ARCHITECTURES`.
        vocab_size: Number of rows of the embedding.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_layers: Number of decoder layers.
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; each serves num_heads / num_kv_heads query heads.
        head_dim: Dimension of one head.
        max_positions: Longest context of the model, in tokens.
        norm_eps: Epsilon of every RMSNorm.
        rope: Rotary position embedding.
        tied: True if the output projection is the embedding, unless the checkpoint has one of its own.
        qkv_bias: True if the projections to queries, keys and values have a bias.
        out_bias: True if the output projection of the attention has a bias.
        mlp_bias: True if the projections of the MLP have a bias.
        qk_norm: True if queries and keys are normalized per head (Qwen3).
        windows: Sliding window of each layer in tokens, None for full attention.
        bos_token_id: Beginning-of-sequence token, None if there is none.
        eos_token_ids: Tokens that end an answer.
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
    rope: Rope
    tied: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    windows: tuple[int | None, ...]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    quantization: Quantization | None = field(default=None, compare=False)

    @property
    def group(self) -> int:
        """Number of query heads per key-value head."""
        return self.num_heads // self.num_kv_heads

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
        keys = Settings({**_DEFAULTS.get(architecture, {}), **data}, "config.json")
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
        max_positions = keys.integer("max_position_embeddings", 2048)
        qkv_bias, out_bias, mlp_bias = _biases(architecture, keys)
        return cls(
            architecture=architecture,
            vocab_size=keys.integer("vocab_size"),
            hidden_size=hidden,
            intermediate_size=keys.integer("intermediate_size"),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            max_positions=max_positions,
            norm_eps=keys.number("rms_norm_eps", 1e-6),
            rope=Rope.from_config(keys),
            tied=keys.flag("tie_word_embeddings"),
            qkv_bias=qkv_bias,
            out_bias=out_bias,
            mlp_bias=mlp_bias,
            qk_norm=architecture == "Qwen3ForCausalLM",
            windows=_windows(architecture, keys, layers, max_positions),
            bos_token_id=keys.integer("bos_token_id", None, least=0),
            eos_token_ids=keys.token_ids("eos_token_id"),
            quantization=read_quantization(keys),
        )


def _architecture(keys: Settings) -> str:
    """Name of the architecture; `architectures` and `model_type` must agree, since programs read either."""
    by_type = _MODEL_TYPES.get(keys.text("model_type", ""), keys.get("model_type"))
    named = (keys.texts("architectures") or (by_type,))[0]
    if named not in ARCHITECTURES:
        raise ModelLoadError(
            f"config.json: architecture {named!r} is not supported; allowed are {', '.join(ARCHITECTURES)}"
        )
    if by_type not in (None, named):
        keys.fail("model_type", f"{named.removesuffix('ForCausalLM').lower()!r} with architecture {named}")
    if keys.text("hidden_act", "silu") not in ("silu", "swish"):
        keys.fail("hidden_act", "'silu'")
    return str(named)


def _biases(architecture: str, keys: Settings) -> tuple[bool, bool, bool]:
    """Whether queries, keys and values, the attention's output and the MLP have biases."""
    if architecture == "InternLM2ForCausalLM":
        return keys.flag("bias"), keys.flag("bias"), False
    if architecture in ("LlamaForCausalLM", "Qwen3ForCausalLM"):
        bias = keys.flag("attention_bias")
        return bias, bias, architecture == "LlamaForCausalLM" and keys.flag("mlp_bias")
    return architecture == "Qwen2ForCausalLM", False, False


def _windows(architecture: str, keys: Settings, layers: int, max_positions: int) -> tuple[int | None, ...]:
    """Sliding window of each layer."""
    window = keys.integer("sliding_window", None)
    kinds = keys.texts("layer_types")
    if kinds is not None and (len(kinds) != layers or not set(kinds) <= {_FULL, _SLIDING}):
        keys.fail("layer_types", f"a list of {layers} times {_FULL!r} or {_SLIDING!r}")
    if architecture.startswith("Qwen"):
        window = window if keys.flag("use_sliding_window") else None
        first = keys.integer("max_window_layers", 28, least=0)
        usual = tuple(_FULL if window is None or index < first else _SLIDING for index in range(layers))
    elif architecture == "MistralForCausalLM":
        usual = (_FULL if window is None else _SLIDING,) * layers
        if kinds not in (None, usual):
            keys.fail("layer_types", f"{usual[0]!r} for all layers with sliding_window={window} (Mistral)")
    else:
        usual = (_FULL,) * layers
        # Without one of these keys, programs disagree whether such a network has a window.
        full = kinds == usual or not keys.flag("use_sliding_window", True)
        if window is not None and window < max_positions and not full:
            keys.fail("sliding_window", f"null ({architecture} has none; or add use_sliding_window=false)")
        window = None
    if window is None and _SLIDING in (kinds or ()):
        keys.fail("layer_types", f"{_FULL!r} without a sliding window")
    return tuple(window if kind == _SLIDING else None for kind in kinds or usual)
