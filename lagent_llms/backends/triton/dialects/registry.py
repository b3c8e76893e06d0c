"""The known dialects, and the one that fits a model; `register_dialect` adds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import ConfigError, nearest
from ..dialect import Dialect, Model
from . import llmapi, lmdeploy, trtllm, turbomind, vllm

__all__ = ["dialect_named", "dialects", "find_dialect", "register_dialect"]

#: In the order of detection.
_BUILT_IN: dict[str, Dialect] = {
    module.DIALECT.name: module.DIALECT for module in (lmdeploy, turbomind, llmapi, vllm, trtllm)
}
_DIALECTS: dict[str, Dialect] = dict(_BUILT_IN)


def register_dialect(dialect: Dialect) -> None:
    """Add a dialect, or replace the one of the same name. The last one added is tried first."""
    _DIALECTS.pop(dialect.name, None)
    _DIALECTS[dialect.name] = dialect


def dialects() -> list[Dialect]:
    """Return all dialects in the order of detection."""
    others = [dialect for name, dialect in _DIALECTS.items() if name not in _BUILT_IN]
    return [*reversed(others), *(dialect for name, dialect in _DIALECTS.items() if name in _BUILT_IN)]


def dialect_named(name: str) -> Dialect:
    """Return the dialect called `name`.

    Raises:
        ConfigError: There is none.
    """
    known = {dialect.name: dialect for dialect in dialects()}
    if name not in known:
        raise ConfigError(f"dialect={name!r}{nearest(name, known)}: allowed: {', '.join(known)}")
    return known[name]


def find_dialect(model: Model, name: str | None = None) -> Dialect:
    """Return the dialect that fits `model`.

    Args:
        model: The model.
        name: The dialect that the user named, None to detect it.

    Raises:
        ConfigError: None fits, or the named one does not; lists the model's inputs and what each dialect
            needs.
    """
    candidates = dialects() if name is None else [dialect_named(name)]
    needs = []
    for dialect in candidates:
        missing = dialect.missing(model)
        if not missing:
            return dialect
        needs.append(f"  {dialect.name} would need {', '.join(missing)}")
    config = model.config
    raise ConfigError(
        f"model {config.name!r} fits no known dialect:\n"
        f"  its inputs: {_listed(config.inputs)}\n  its outputs: {_listed(config.outputs)}\n"
        + "\n".join(needs)
    )


def _listed(specs: Mapping[str, Any]) -> str:
    return ", ".join(map(str, specs.values())) or "none"
