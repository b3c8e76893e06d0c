"""Mixtures of experts: what config.json says about them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ..settings import Settings
from .base import Sizes

__all__ = ["Experts", "read_experts", "sparse_layers"]


class Experts(NamedTuple):
    """The experts of a network.

    Attributes:
        per_layer: Number of experts of a layer.
        per_token: Number of experts that each token passes.
        size: Width of an expert.
        normalized: True if the weights of a token's experts are scaled to a sum of 1.
        layers: Indices of the layers with experts.
        shared_size: Width of the expert that every token passes, None if there is none.
    """

    per_layer: int
    per_token: int
    size: int
    normalized: bool
    layers: frozenset[int]
    shared_size: int | None = None


def read_experts(
    keys: Settings, *, size: int, normalized: bool, layers: Collection[int], shared_size: int | None = None
) -> Experts:
    """Read the number of experts, in all and per token.

    Raises:
        ModelLoadError: A value is wrong.
    """
    name = "num_experts" if keys.get("num_local_experts") is None else "num_local_experts"
    count = keys.integer(name)
    if keys.get("num_experts") not in (None, count):
        keys.fail("num_experts", f"{count}, as {name}")
    per_token = keys.integer("num_experts_per_tok", most=count)
    return Experts(count, per_token, size, normalized, frozenset(layers), shared_size)


def sparse_layers(keys: Settings, sizes: Sizes) -> list[int]:
    """Indices of the layers with experts: each `decoder_sparse_step`-th one, except `mlp_only_layers`."""
    step, dense = keys.integer("decoder_sparse_step", 1), keys.integers("mlp_only_layers") or ()
    return [index for index in range(sizes.num_layers) if (index + 1) % step == 0 and index not in dense]
