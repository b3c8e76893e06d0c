"""Read and validate the network's configuration in a checkpoint's config.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError

__all__ = ["ARCHITECTURES", "ModelConfig", "Rope", "read_json"]

#: Supported architectures, as named in config.json.
ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "InternLM2ForCausalLM",
)

_MODEL_TYPES = {name.removesuffix("ForCausalLM").lower(): name for name in ARCHITECTURES}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelLoadError: The file cannot be read or does not hold a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ModelLoadError(f"{path}: expected a JSON object, found a {type(data).__name__}")
    return data


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
    def from_config(cls, data: Mapping[str, Any]) -> Rope:
        """Read ``rope_parameters`` (transformers 5), or ``rope_theta`` and ``rope_scaling`` (earlier).

        Raises:
            ModelLoadError: The RoPE variant is not supported.
        """
        table = dict(data.get("rope_scaling") or {}) | dict(data.get("rope_parameters") or {})
        theta = float(table.get("rope_theta") or data.get("rope_theta") or 10000.0)
        kind = str(table.get("rope_type") or table.get("type") or "default")
        if float(table.get("partial_rotary_factor") or data.get("partial_rotary_factor") or 1.0) != 1.0:
            raise ModelLoadError("config.json: partial_rotary_factor other than 1 is not supported")
        if kind in ("default", "dynamic"):
            # Dynamic NTK has no effect up to max_position_embeddings, the limit of this engine.
            return cls(theta)
        if kind == "linear":
            return cls(theta, kind, float(table["factor"]))
        if kind == "llama3":
            return cls(
                theta,
                kind,
                float(table["factor"]),
                float(table["low_freq_factor"]),
                float(table["high_freq_factor"]),
                int(table["original_max_position_embeddings"]),
            )
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
        tied: True if the output projection is the embedding.
        qk_norm: True if queries and keys are normalized per head (Qwen3).
        windows: Sliding window of each layer in tokens, None for full attention.
        bos_token_id: Beginning-of-sequence token, None if there is none.
        eos_token_ids: Tokens that end an answer.
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
    qk_norm: bool
    windows: tuple[int | None, ...]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]

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
        architecture = _architecture(data)
        try:
            heads, hidden = int(data["num_attention_heads"]), int(data["hidden_size"])
            layers = int(data["num_hidden_layers"])
            kv_heads = int(data.get("num_key_value_heads") or heads)
            config = cls(
                architecture=architecture,
                vocab_size=int(data["vocab_size"]),
                hidden_size=hidden,
                intermediate_size=int(data["intermediate_size"]),
                num_layers=layers,
                num_heads=heads,
                num_kv_heads=kv_heads,
                head_dim=int(data.get("head_dim") or hidden // heads),
                max_positions=int(data.get("max_position_embeddings") or 2048),
                norm_eps=float(data.get("rms_norm_eps") or 1e-6),
                rope=Rope.from_config(data),
                tied=bool(data.get("tie_word_embeddings", False)),
                qk_norm=architecture == "Qwen3ForCausalLM",
                windows=_windows(architecture, data, layers),
                bos_token_id=data.get("bos_token_id"),
                eos_token_ids=_token_ids(data.get("eos_token_id")),
            )
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelLoadError(f"config.json: {reason}") from error
        if config.num_heads % config.num_kv_heads:
            raise ModelLoadError(
                f"config.json: num_attention_heads={heads} is not a multiple of "
                f"num_key_value_heads={kv_heads}"
            )
        return config


def _architecture(data: Mapping[str, Any]) -> str:
    named = data.get("architectures") or [
        _MODEL_TYPES.get(str(data.get("model_type")), data.get("model_type"))
    ]
    if named[0] not in ARCHITECTURES:
        raise ModelLoadError(
            f"config.json: architecture {named[0]!r} is not supported; allowed are {', '.join(ARCHITECTURES)}"
        )
    if (activation := data.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise ModelLoadError(f"config.json: hidden_act {activation!r} is not supported; allowed is 'silu'")
    return str(named[0])


def _windows(architecture: str, data: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Sliding window of each layer; ``layer_types`` has priority if the config has it."""
    window = data.get("sliding_window")
    if not window or (architecture.startswith("Qwen") and not data.get("use_sliding_window")):
        return (None,) * layers
    if kinds := data.get("layer_types"):
        return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)
    first = int(data.get("max_window_layers", 0)) if architecture.startswith("Qwen") else 0
    return tuple(int(window) if layer >= first else None for layer in range(layers))


def _token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """Convert a token id, a list of token ids or None."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
