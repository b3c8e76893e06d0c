"""Spread weights and cache over a device mesh; with a single device there is nothing to spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import InvalidArgument

__all__ = ["CACHE", "build_mesh", "full_mesh", "place"]

#: Name of the cache's arrays for `place`.
CACHE = "cache"

#: Which mesh axis each dimension of an array is split over; what is not listed is held whole by every device.
_AXES: dict[str, tuple[str | None, ...]] = {
    "embed": (None, "fsdp"),
    "head": ("fsdp", "mp"),
    "qkv": ("fsdp", "mp", None, None),
    "qkv_bias": ("mp", None, None),
    "out": ("mp", "fsdp"),
    "gate_up": ("fsdp", None, "mp"),
    "gate_up_bias": (None, "mp"),
    "down": ("mp", "fsdp"),
    CACHE: ("dp", "mp", None, None),
}


def build_mesh(names: Sequence[str], shape: Sequence[int]) -> Mesh | None:
    """`full_mesh`, or None when it is a single device."""
    mesh = full_mesh(names, shape)
    return mesh if mesh.size > 1 else None


def full_mesh(names: Sequence[str], shape: Sequence[int]) -> Mesh:
    """The mesh of `shape`, where -1 takes the devices that are left.

    Raises:
        InvalidArgument: Names and shape do not match, or the shape does not fit the devices.
    """
    devices = jax.local_devices()  # of this host: each serves requests of its own
    fixed = math.prod(size for size in shape if size != -1)
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise InvalidArgument(
            f"mesh_axes_names={tuple(names)!r} and mesh_axes_shape={tuple(shape)!r}: "
            "allowed are as many names as sizes, all different",
            argument="mesh_axes_shape",
        )
    if list(shape).count(-1) > 1 or any(size < 1 and size != -1 for size in shape) or fixed > len(devices):
        raise InvalidArgument(
            f"mesh_axes_shape={tuple(shape)!r}: allowed are sizes of 1 or more, at most one -1, "
            f"and a product of at most {len(devices)} (devices)",
            argument="mesh_axes_shape",
        )
    sizes = [len(devices) // fixed if size == -1 else size for size in shape]
    grid = np.array(devices[: math.prod(sizes)]).reshape(sizes)
    return Mesh(grid, tuple(names), axis_types=(AxisType.Auto,) * len(sizes))


def place(mesh: Mesh | None, name: str, array: Any) -> jax.Array:
    """Put the array of a weight field, or of the cache, on the device or over the mesh."""
    if mesh is None:
        return jnp.asarray(array)
    axes = _AXES.get(name, ())
    spec = [
        axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, array.shape, strict=False)
    ]
    sharding = NamedSharding(mesh, PartitionSpec(*spec))  # type: ignore[no-untyped-call]
    spread: jax.Array = jax.device_put(array, sharding)
    return spread
