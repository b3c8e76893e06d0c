"""Shard weights and KV cache over a device mesh; a single device needs no mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import InvalidArgument

__all__ = ["KV_CACHE", "build_mesh", "full_mesh", "shard"]

#: Name of the KV cache's arrays for `shard`.
KV_CACHE = "kv_cache"

#: Mesh axis of each dimension of an array; None and unlisted arrays are replicated.
_AXES: dict[str, tuple[str | None, ...]] = {
    "embed": (None, "fsdp"),
    "head": ("fsdp", "mp"),
    "qkv": ("fsdp", "mp", None, None),
    "qkv_bias": ("mp", None, None),
    "out": ("mp", "fsdp"),
    "gate_up": ("fsdp", None, "mp"),
    "gate_up_bias": (None, "mp"),
    "down": ("mp", "fsdp"),
    "expert_gate_up": (None, "fsdp", None, "mp"),
    "expert_down": (None, "mp", "fsdp"),
    KV_CACHE: ("dp", "mp", None, None),
}


def build_mesh(names: Sequence[str], shape: Sequence[int]) -> Mesh | None:
    """Build a `full_mesh`; None if it has a single device."""
    mesh = full_mesh(names, shape)
    return mesh if mesh.size > 1 else None


def full_mesh(names: Sequence[str], shape: Sequence[int]) -> Mesh:
    """Build a mesh over this host's devices.

    Args:
        names: Names of the axes.
        shape: Sizes of the axes; one may be -1, for all remaining devices.

    Raises:
        InvalidArgument: Names and shape do not match, or there are too few devices.
    """
    devices = jax.local_devices()  # each host serves its own requests
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


def shard(mesh: Mesh | None, name: str, array: Any) -> jax.Array:
    """Transfer an array to the device, or shard it over the mesh.

    Args:
        mesh: The mesh; None is the default device.
        name: Field of `LayerWeights`, `ExpertWeights` or `ModelWeights`, or `KV_CACHE`. A dimension that its
            mesh axis does not divide is replicated.
        array: NumPy or JAX array.
    """
    if mesh is None:
        return jnp.asarray(array)
    axes = _AXES.get(name, ())
    spec = [
        axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, array.shape, strict=False)
    ]
    sharding = NamedSharding(mesh, PartitionSpec(*spec))  # type: ignore[no-untyped-call]
    sharded: jax.Array = jax.device_put(array, sharding)
    return sharded
