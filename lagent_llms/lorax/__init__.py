"""The Python client of LoRAX: `Client`, `AsyncClient`, their types and errors, under lorax-client's names.

Code written for lorax-client runs after replacing ``lorax`` by ``lagent_llms.lorax`` in its imports.
"""

from __future__ import annotations

from .aio import AsyncClient
from .client import Client
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .types import *  # noqa: F403
from .types import __all__ as _types

__all__ = ["AsyncClient", "Client", *_errors, *_types]
