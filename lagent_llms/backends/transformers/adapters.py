"""The PEFT adapters of a model: load them, and choose the one that answers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ...errors import InvalidArgument, MissingDependency, ModelLoadError

__all__ = ["Adapters"]


class Adapters:
    """The adapters of a model, used by one thread.

    Args:
        model: A model of transformers, or a PeftModel with adapters of its own.
        paths: Name of each adapter to load, and its directory or hub id.

    Attributes:
        model: The model, a PeftModel if there are adapters; None once it is released.
        names: Names of all adapters.

    Raises:
        InvalidArgument: The model has an adapter of this name already.
        ModelLoadError: An adapter cannot be loaded.
        MissingDependency: peft is not installed.
    """

    def __init__(self, model: Any, paths: Mapping[str, str | os.PathLike[str]] | None = None) -> None:
        self.model: Any = model
        #: What a call without a name answers with: what was active, None for the model alone.
        self._default = getattr(model, "active_adapter", None) if hasattr(model, "peft_config") else None
        for name, path in (paths or {}).items():
            if name in getattr(self.model, "peft_config", ()):
                raise InvalidArgument(f"adapters: the model has {name!r} already", argument="adapters")
            try:
                self._load(name, os.fspath(path))
            except ModuleNotFoundError as error:
                raise MissingDependency.of(str(error.name), "transformers") from error
            except Exception as error:
                raise ModelLoadError(f"adapters: {name!r} ({path}) cannot be loaded: {error}") from error
        self.names = frozenset(getattr(self.model, "peft_config", ()))

    def _load(self, name: str, path: str) -> None:
        if hasattr(self.model, "peft_config"):
            self.model.load_adapter(path, adapter_name=name)
        else:
            from peft import PeftModel  # here: only adapters need it

            with warnings.catch_warnings():  # peft reads a name that transformers is about to rename
                warnings.simplefilter("ignore", FutureWarning)
                self.model = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()

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

    def using(self, name: str | None) -> AbstractContextManager[None]:
        """Answer with this adapter inside the context; None is the model as it was given."""
        if not self.names:
            return nullcontext()
        wanted = self._default if name is None else name
        if wanted is None:
            disabled: AbstractContextManager[None] = self.model.disable_adapter()
            return disabled
        self.model.set_adapter(wanted)
        return nullcontext()

    def release(self) -> None:
        """Let go of the model."""
        self.model = None
