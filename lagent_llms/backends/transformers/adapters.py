"""The PEFT adapters of a model: load them, and choose the one that answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidArgument, MissingDependency, ModelLoadError

__all__ = ["Adapters"]


class Adapters:
    """The adapters of a model, used by one thread.

    Args:
        model: A model of transformers or a PeftModel; its adapters are kept.
        paths: Name of each adapter to load, and its directory or hub id.

    Attributes:
        names: Names of all loaded adapters.

    Raises:
        ModelLoadError: An adapter cannot be loaded.
        MissingDependency: peft is not installed.
    """

    def __init__(self, model: Any, paths: Mapping[str, str | os.PathLike[str]] | None = None) -> None:
        self._model = model
        known = tuple(getattr(model, "peft_config", None) or ())
        active = getattr(model, "active_adapters", ()) if known else ()
        #: What a call without a name answers with: the adapters that were active, [] for the model alone.
        self._default = [*(active() if callable(active) else active)]
        self._used: list[str] | None = self._default
        self._disabled = False
        for name, path in (paths or {}).items():
            if name in known:
                raise InvalidArgument(
                    f"adapters: the model has one named {name!r} already", argument="adapters"
                )
            try:
                model.load_adapter(os.fspath(path), adapter_name=name)
            except ModuleNotFoundError as error:
                raise MissingDependency.of(str(error.name), "transformers") from error
            except Exception as error:
                raise ModelLoadError(f"adapters: {name!r} ({path}) cannot be loaded: {error}") from error
            self._used = None
        self.names = frozenset((*known, *(paths or ())))

    def check(self, name: str | None) -> None:
        """Refuse an adapter that is not loaded.

        Raises:
            InvalidArgument: There is none of this name.
        """
        if name is not None and name not in self.names:
            raise InvalidArgument(
                f"adapter_name={name!r}: loaded are {', '.join(sorted(self.names)) or 'none'}; the argument "
                "adapters={…} of the constructor loads them",
                argument="adapter_name",
            )

    def use(self, name: str | None) -> None:
        """Answer with this adapter from now on; None is the model as it was given."""
        wanted = self._default if name is None else [name]
        if wanted == self._used:
            return
        if wanted:
            if self._disabled:
                self._model.enable_adapters()
            self._model.set_adapter(wanted if len(wanted) > 1 else wanted[0])
        else:
            self._model.disable_adapters()
        self._used, self._disabled = wanted, not wanted

    def release(self) -> None:
        """Let go of the model."""
        self._model = None
