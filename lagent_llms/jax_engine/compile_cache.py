"""Persist compiled graphs on disk, so that only the first start of a model compiles them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import jax
from jax.experimental.compilation_cache import compilation_cache

__all__ = ["default_directory", "enable_compile_cache"]


def default_directory() -> Path:
    """``$XDG_CACHE_HOME/lagent_llms/xla``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lagent_llms" / "xla"


def enable_compile_cache(directory: str | os.PathLike[str] | Literal[False] | None) -> None:
    """Enable JAX's persistent compilation cache, unless one is configured already.

    Args:
        directory: Directory of the cache; None is `default_directory`, False leaves JAX unchanged. If the
            directory is not writable, JAX warns and compiles without a cache.
    """
    config: Any = jax.config
    if directory is False or config.jax_compilation_cache_dir:
        return
    config.update("jax_compilation_cache_dir", str(directory or default_directory()))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # An earlier compilation may have made JAX decide that there is no cache.
    compilation_cache.reset_cache()
