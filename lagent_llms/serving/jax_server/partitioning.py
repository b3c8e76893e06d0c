"""Parameters of a foreign model: read EasyDeL's checkpoint file, and shard over a device mesh."""

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
    """Read the nested parameters in an EasyDeL checkpoint, a file of msgpack pairs (key, array).

    Args:
        path: The file.
        dtype: The dtype to which floating-point arrays are converted.

    Raises:
        ModelLoadError: The file is missing or has another format.
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
                branch = params
                for parent in parents:
                    branch = branch.setdefault(parent, {})
                array = msgpack_restore(data)
                is_float = jax.numpy.issubdtype(array.dtype, jax.numpy.floating)
                branch[name] = array.astype(dtype) if is_float else array
    except (OSError, ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ModelLoadError(f"{path}: not an EasyDeL checkpoint of (key, array) pairs: {error}") from error
    if not params:
        raise ModelLoadError(f"{path}: the checkpoint has no parameters")
    return params


def check_shapes(model: Any, params: Any, init_shape: Sequence[int]) -> None:
    """Compare `params` with the shapes of ``model.init_weights(key, init_shape)``, if the model has it.

    Raises:
        ModelLoadError: A parameter is missing, unexpected, or has another shape.
    """
    init = getattr(model, "init_weights", None)
    if not callable(init):
        return
    initial = jax.eval_shape(lambda: init(jax.random.PRNGKey(0), tuple(init_shape)))
    expected = {name: leaf.shape for name, leaf in _named_leaves(initial)}
    actual = {name: leaf.shape for name, leaf in _named_leaves(params)}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise ModelLoadError(
                f"parameter {name}: the model expects {expected.get(name, 'none')}, "
                f"the file has {actual.get(name, 'none')}"
            )


def partition_rules(config_model: Any, params: Any) -> Any:
    """The PartitionSpec of each parameter, by ``config_model.get_partition_rules()`` if it exists.

    The rules are (regular expression, PartitionSpec) pairs. The first rule that matches the parameter's path
    decides; a parameter without a match is replicated.
    """
    rules: list[tuple[str, Any]] = []
    if callable(getattr(config_model, "get_partition_rules", None)):
        rules = list(config_model.get_partition_rules())

    def rule_of(path: Any, leaf: Any) -> PartitionSpec:
        replicated = PartitionSpec()  # type: ignore[no-untyped-call]
        matching = (spec for pattern, spec in rules if re.search(pattern, _path_name(path)))
        return next(matching, replicated) if getattr(leaf, "ndim", 0) else replicated

    return jax.tree_util.tree_map_with_path(rule_of, params)


def shard(params: Any, rules: Any, mesh: Mesh) -> Any:
    """Put `params` on the devices of `mesh`; a dimension that its axis does not divide is not split."""

    def put(leaf: Any, rule: PartitionSpec) -> Any:
        axes = [_dividing_axes(mesh, axis, size) for axis, size in zip(rule, leaf.shape, strict=False)]
        spec = PartitionSpec(*axes)  # type: ignore[no-untyped-call]
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(put, params, rules)


def _dividing_axes(mesh: Mesh, axis: Any, size: int) -> Any:
    names = (axis,) if isinstance(axis, str) else tuple(axis or ())
    known = tuple(name for name in names if name in mesh.shape)
    n_shards = 1
    for name in known:
        n_shards *= mesh.shape[name]
    return known if known and size % n_shards == 0 else None


def _named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield _path_name(path), leaf


def _path_name(path: Any) -> str:
    """A parameter's path, such as 'model/layers/0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
