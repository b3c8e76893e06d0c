"""Load the weights of a checkpoint into the layout of `model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError
from .config import ModelConfig
from .dequantize import open_checkpoint
from .layer_weights import read_layer
from .lora import LoraAdapter
from .model import ModelWeights

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
    reader, layout = _Reader(path, config, lora), config.layout

    def put(name: str, array: HostArray | None) -> Any:
        if array is None:
            return None
        if name.endswith("norm") and layout.float32_norms:
            return shard(name, array.astype(np.float32) + np.float32(layout.norm_offset))
        return shard(name, np.ascontiguousarray(array.astype(dtype, copy=False)))

    embed, head = reader.embedding_and_head(config, f"{layout.embed}.weight", f"{layout.head}.weight")
    weights = ModelWeights(
        embed=put("embed", embed),
        layers=tuple(read_layer(config, index, reader.get, put) for index in range(config.num_layers)),
        norm=put("norm", reader.get(f"{layout.norm}.weight", config.hidden_size)),
        head=None if head is None else put("head", head.T),
    )
    reader.check_used()
    if lora is not None:
        lora.check_used()
    return weights
