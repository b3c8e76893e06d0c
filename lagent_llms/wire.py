"""The former home of Triton's dialects: `lagent_llms.wire.triton` is `lagent_llms.backends.triton` now.

Kept for one version; importing it warns.
"""

import sys
import warnings

from .backends import triton

warnings.warn(
    "lagent_llms.wire.triton has moved to lagent_llms.backends.triton; the old path ends with version 0.3",
    DeprecationWarning,
    stacklevel=2,
)
sys.modules[f"{__name__}.triton"] = triton
