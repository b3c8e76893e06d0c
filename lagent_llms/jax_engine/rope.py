"""Rotary position embeddings (arXiv 2104.09864): from the settings of a config.json to frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import ModelLoadError
from .settings import Settings

__all__ = ["Rope", "read_rope", "rope_from_table"]


class Rope(NamedTuple):
    """The rotation of queries and keys by their position.

    Attributes:
        frequencies: Radians per position of each pair of dimensions. Fewer than half the dimensions of a head
            leave its last dimensions as they are.
        scale: Factor of the rotated dimensions.
        long_frequencies: Frequencies of sequences longer than `switch`; () for the same ones.
        switch: Longest sequence with `frequencies`, in tokens; None if every sequence has them.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    long_frequencies: tuple[float, ...] = ()
    switch: int | None = None


class _Context(NamedTuple):
    """What a scaling needs to know: its table, and the network around it.

    Attributes:
        table: Settings of the scaling.
        theta: Base of the geometric series of wavelengths.
        frequencies: Frequencies without scaling, (rotated dimensions / 2,) float64.
        max_positions: Longest context of the model, in tokens.
        original_length: Longest context before scaling as the network's own settings have it, in tokens.
    """

    table: Settings
    theta: float
    frequencies: np.ndarray[Any, np.dtype[np.float64]]
    max_positions: int
    original_length: int | None


def read_rope(
    keys: Settings,
    head_dim: int,
    max_positions: int,
    *,
    partial: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """Read ``rope_parameters`` (transformers 5), or ``rope_theta`` and ``rope_scaling`` (earlier).

    Args:
        keys: The contents of config.json.
        head_dim: Dimension of a head.
        max_positions: Longest context of the model, in tokens.
        partial: Whether the architecture can rotate a part of each head.
        aliases: Other names of scalings in this architecture.

    Raises:
        ModelLoadError: The RoPE variant is not supported, or a value is wrong.
    """
    name = "rope_scaling" if keys.get("rope_scaling") else "rope_parameters"
    table = keys.table(name)
    for key, value in table.items():
        if isinstance(value, dict):  # a table for each kind of layer
            table.fail(key, "a number or a string")
    theta = table.number("rope_theta", keys.number("rope_theta", 10000.0))
    rotated = head_dim
    for settings in (keys, table):
        fraction = settings.number("partial_rotary_factor", None)
        if fraction is None:
            continue
        rotated = int(head_dim * fraction)
        if not partial and fraction != 1:
            settings.fail("partial_rotary_factor", "1")
        if not 2 <= rotated <= head_dim or rotated % 2:
            settings.fail("partial_rotary_factor", f"an even part of the {head_dim} dimensions of a head")
    original = keys.integer("original_max_position_embeddings", None)
    return rope_from_table(table, theta, rotated, max_positions, original, aliases)


def rope_from_table(
    table: Settings,
    theta: float,
    rotated: int,
    max_positions: int,
    original_length: int | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """Read the settings of one rotary embedding.

    Args:
        table: Settings with ``rope_type`` (or ``type``) and the values that it needs.
        theta: Base of the geometric series of wavelengths.
        rotated: Number of rotated dimensions of a head.
        max_positions: Longest context of the model, in tokens.
        original_length: Longest context before scaling, where the network's settings have it outside `table`.
        aliases: Other names of scalings.

    Raises:
        ModelLoadError: The RoPE variant is not supported, or a value is wrong.
    """
    kind = table.text("rope_type", "") or table.text("type", "default")
    kind = (aliases or {}).get(kind, kind)
    if kind not in _SCALINGS:
        raise ModelLoadError(
            f"config.json: RoPE scaling {kind!r} is not supported; allowed are {', '.join(_SCALINGS)}"
        )
    frequencies = theta ** -(np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    rope = _SCALINGS[kind](_Context(table, theta, frequencies, max_positions, original_length))
    values = np.array([*rope.frequencies, *rope.long_frequencies, rope.scale])
    if not (values < np.finfo(np.float32).max).all():
        table.fail("factor", "a factor with frequencies that float32 holds")
    return rope


def _default(context: _Context) -> Rope:
    return Rope(tuple(context.frequencies.tolist()))


def _linear(context: _Context) -> Rope:
    return Rope(tuple((context.frequencies / context.table.number("factor")).tolist()))


def _llama3(context: _Context) -> Rope:
    """Scale long wavelengths by the factor, short ones not, those between by an interpolation."""
    table = context.table
    factor, length = table.number("factor"), table.integer("original_max_position_embeddings")
    low, high = table.number("low_freq_factor"), table.number("high_freq_factor")
    if high <= low:
        table.fail("high_freq_factor", f"a number above low_freq_factor={low}")
    wavelengths = 2 * math.pi / context.frequencies
    smooth = np.clip((length / wavelengths - low) / (high - low), 0.0, 1.0)
    scaled = (1 - smooth) * context.frequencies / factor + smooth * context.frequencies
    return Rope(tuple(scaled.tolist()))


def _yarn(context: _Context) -> Rope:
    """YaRN (arXiv 2309.00071): interpolate slow dimensions, keep fast ones, a ramp between them."""
    table, length = context.table, _original_length(context)
    if context.theta <= 1:
        table.fail("rope_theta", "a number above 1 with yarn")
    factor = table.number("factor", context.max_positions / length)
    scale = table.number("attention_factor", None)
    if scale is None:
        mscale, all_dims = (table.number(key, 0.0, positive=False) for key in ("mscale", "mscale_all_dim"))
        if min(mscale, all_dims) < 0:
            table.fail("mscale" if mscale < 0 else "mscale_all_dim", "a number of 0 or more")
        scale = (
            _mscale(factor, mscale) / _mscale(factor, all_dims) if mscale and all_dims else _mscale(factor)
        )
    pairs = len(context.frequencies)

    def dimension_of(rotations: float) -> float:
        """Index of the pair that turns so many times within the original context."""
        return pairs * math.log(length / (rotations * 2 * math.pi)) / math.log(context.theta)

    low = dimension_of(table.number("beta_fast", 32.0))
    high = dimension_of(table.number("beta_slow", 1.0))
    if table.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    ramp = np.clip((np.arange(pairs) - low) / ((high - low) or 0.001), 0.0, 1.0)
    scaled = context.frequencies / factor * ramp + context.frequencies * (1 - ramp)
    return Rope(tuple(scaled.tolist()), scale)


def _mscale(factor: float, mscale: float = 1.0) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(context: _Context) -> Rope:
    """LongRoPE (arXiv 2402.13753): a factor for each pair, other ones for sequences beyond the original."""
    table, length = context.table, _original_length(context)
    pairs = len(context.frequencies)
    factors = []
    for key in ("short_factor", "long_factor"):
        found = table.numbers(key)
        if found is None or len(found) != pairs:
            table.fail(key, f"a list of {pairs} numbers above 0")
        factors.append(tuple((context.frequencies / np.array(found)).tolist()))
    if length < 2:
        table.fail("original_max_position_embeddings", "an integer of 2 or more")
    factor = table.number("factor", context.max_positions / length)
    scale = math.sqrt(1 + math.log(factor) / math.log(length)) if factor > 1 else 1.0
    return Rope(factors[0], table.number("attention_factor", scale), factors[1], length)


def _original_length(context: _Context) -> int:
    """Longest context before scaling; programs read it at either place, so both must agree."""
    own = context.table.integer("original_max_position_embeddings", None)
    if None not in (own, context.original_length) and own != context.original_length:
        context.table.fail(
            "original_max_position_embeddings", f"{context.original_length}, as config.json has it outside"
        )
    return own or context.original_length or context.max_positions


#: How each kind of scaling changes the frequencies. Dynamic NTK has no effect up to max_position_embeddings,
#: the limit of this engine.
_SCALINGS: dict[str, Callable[[_Context], Rope]] = {
    "default": _default,
    "dynamic": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
