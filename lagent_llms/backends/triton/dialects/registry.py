"""Which dialects there are, and which one a model speaks; a third party adds one with `register_dialect`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import ConfigError, nearest
from ..dialect import Dialect, Model
from . import llmapi, lmdeploy, trtllm, turbomind, vllm

__all__ = ["dialect_named", "dialects", "find_dialect", "register_dialect"]

#: In the order in which they are tried.
_BUILT_IN: dict[str, Dialect] = {
    module.DIALECT.name: module.DIALECT for module in (lmdeploy, turbomind, llmapi, vllm, trtllm)
}
_DIALECTS: dict[str, Dialect] = dict(_BUILT_IN)


def register_dialect(dialect: Dialect) -> None:
    """Add a dialect; one of the same name is replaced. The last one added is tried first."""
    _DIALECTS.pop(dialect.name, None)
    _DIALECTS[dialect.name] = dialect


def dialects() -> list[Dialect]:
    """All dialects, in the order in which they are tried."""
    others = [dialect for name, dialect in _DIALECTS.items() if name not in _BUILT_IN]
    return [*reversed(others), *(dialect for name, dialect in _DIALECTS.items() if name in _BUILT_IN)]


def dialect_named(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        ConfigError: There is none.
    """
    known = {dialect.name: dialect for dialect in dialects()}
    if name not in known:
        raise ConfigError(f"dialect={name!r}{nearest(name, known)}: known are {', '.join(known)}")
    return known[name]


def find_dialect(model: Model, name: str | None = None) -> Dialect:
    """The dialect that `model` speaks.

    Args:
        model: The model.
        name: The dialect the user named, None to find it.

    Raises:
        ConfigError: None fits, or not the one named; lists the inputs and what each would need.
    """
    candidates = dialects() if name is None else [dialect_named(name)]
    needs = []
    for dialect in candidates:
        lacking = dialect.missing(model)
        if not lacking:
            return dialect
        needs.append(f"  {dialect.name} would need {', '.join(lacking)}")
    config = model.config
    raise ConfigError(
        f"model {config.name!r} speaks no dialect that is known here:\n"
        f"  its inputs: {_listed(config.inputs)}\n  its outputs: {_listed(config.outputs)}\n"
        + "\n".join(needs)
    )


def _listed(specs: Mapping[str, Any]) -> str:
    return ", ".join(map(str, specs.values())) or "none"
