"""Python client of LoRAX with the API of lorax-client: `Client`, `AsyncClient`, their types and errors.

Code written for lorax-client works after replacing ``lorax`` by ``lagent_llms.lorax`` in its imports.
"""

from __future__ import annotations

from .async_client import AsyncClient
from .client import Client
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .types import *  # noqa: F403
from .types import __all__ as _types

__all__ = ["AsyncClient", "Client", *_errors, *_types]
