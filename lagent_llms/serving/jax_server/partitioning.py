"""Parameters of a foreign model: read from EasyDeL's checkpoint file, and spread over a device mesh."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ...errors import MissingDependency, ModelLoadError

__all__ = ["check_shapes", "partition_rules", "read_params", "shard"]


def read_params(path: str | os.PathLike[str], dtype: Any) -> dict[str, Any]:
    """The nested parameters in a file of msgpack pairs (key, array), as EasyDeL writes it.

    Args:
        path: The file.
        dtype: What floating-point arrays become.

    Raises:
        ModelLoadError: It is not there, or holds something else.
        MissingDependency: flax is not installed.
    """
    try:
        import msgpack
        from flax.serialization import msgpack_restore
    except ModuleNotFoundError as error:
        raise MissingDependency(f"{error.name} is not installed; run: pip install flax") from error
    params: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            for key, data in msgpack.Unpacker(file, max_buffer_size=0):
                *parents, name = [str(part) for part in key]
                place = params
                for parent in parents:
                    place = place.setdefault(parent, {})
                array = msgpack_restore(data)
                is_float = jax.numpy.issubdtype(array.dtype, jax.numpy.floating)
                place[name] = array.astype(dtype) if is_float else array
    except (OSError, ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ModelLoadError(f"{path}: no file of (key, array) pairs: {error}") from error
    if not params:
        raise ModelLoadError(f"{path}: there are no parameters in it")
    return params


def check_shapes(model: Any, params: Any, init_shape: Sequence[int]) -> None:
    """Compare `params` with those a model would begin with, if it can tell (``init_weights(key, shape)``).

    Raises:
        ModelLoadError: One is missing, too many, or has another shape.
    """
    init = getattr(model, "init_weights", None)
    if not callable(init):
        return
    expected = jax.eval_shape(lambda: init(jax.random.PRNGKey(0), tuple(init_shape)))
    wanted = {name: leaf.shape for name, leaf in _named(expected)}
    found = {name: leaf.shape for name, leaf in _named(params)}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ModelLoadError(
                f"parameter {name}: the model expects {wanted.get(name, 'none')}, "
                f"the file has {found.get(name, 'none')}"
            )


def partition_rules(config_model: Any, params: Any) -> Any:
    """For each parameter how it is split: by ``config_model.get_partition_rules()``, or not at all.

    The rules are (regular expression over the parameter's path, PartitionSpec) pairs; the first that fits
    decides.
    """
    rules: list[tuple[str, Any]] = []
    if callable(getattr(config_model, "get_partition_rules", None)):
        rules = list(config_model.get_partition_rules())

    def rule_of(path: Any, leaf: Any) -> PartitionSpec:
        whole = PartitionSpec()  # type: ignore[no-untyped-call]
        fitting = (spec for pattern, spec in rules if re.search(pattern, _name(path)))
        return next(fitting, whole) if getattr(leaf, "ndim", 0) else whole

    return jax.tree_util.tree_map_with_path(rule_of, params)


def shard(params: Any, rules: Any, mesh: Mesh) -> Any:
    """`params` on the devices of `mesh`; a dimension that its axis does not divide is not split."""

    def put(leaf: Any, rule: PartitionSpec) -> Any:
        axes = [_fitting(mesh, axis, size) for axis, size in zip(rule, leaf.shape, strict=False)]
        spec = PartitionSpec(*axes)  # type: ignore[no-untyped-call]
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(put, params, rules)


def _fitting(mesh: Mesh, axis: Any, size: int) -> Any:
    names = (axis,) if isinstance(axis, str) else tuple(axis or ())
    known = tuple(name for name in names if name in mesh.shape)
    parts = 1
    for name in known:
        parts *= mesh.shape[name]
    return known if known and size % parts == 0 else None


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield _name(path), leaf


def _name(path: Any) -> str:
    """A parameter's path as 'model/layers/0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
