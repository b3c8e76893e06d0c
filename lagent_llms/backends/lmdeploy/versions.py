"""Which versions of lmdeploy this library was written and tested against."""

from __future__ import annotations

import re
import warnings

__all__ = ["OLDEST", "OLDEST_PIPELINE", "TESTED", "check_version"]

#: The version the tests run on, and the oldest one whose differences are known (docs/lmdeploy.md).
TESTED, OLDEST = (0, 18), (0, 6)
#: Since then the engine takes a request apart from running it, which is how LMDeployPipeline uses it.
OLDEST_PIPELINE = (0, 17)

_warned: set[str] = set()


def check_version(version: str) -> tuple[int, int]:
    """Major and minor of `version`; warns once of one that nobody has looked at."""
    found = re.match(r"(\d+)\.(\d+)", version)
    known = (int(found[1]), int(found[2])) if found else (0, 0)
    if not OLDEST <= known <= TESTED and version not in _warned:
        _warned.add(version)
        warnings.warn(
            f"lmdeploy {version} is unknown to this version of lagent_llms, which was tested with "
            f"{TESTED[0]}.{TESTED[1]} and knows of {OLDEST[0]}.{OLDEST[1]} and later",
            stacklevel=3,
        )
    return known
