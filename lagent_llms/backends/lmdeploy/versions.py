"""Versions of lmdeploy that this library supports and was tested with."""

from __future__ import annotations

import re
import warnings

__all__ = ["OLDEST", "OLDEST_PIPELINE", "TESTED", "check_version"]

#: Version that the tests use, and the oldest supported one (differences: docs/lmdeploy.md).
TESTED, OLDEST = (0, 18), (0, 6)
#: First version whose engine has `preprocess` apart from `generate`, as LMDeployPipeline needs.
OLDEST_PIPELINE = (0, 17)

_warned: set[str] = set()


def check_version(version: str) -> tuple[int, int]:
    """Parse major and minor of `version`; warn once if the version is outside the tested range."""
    found = re.match(r"(\d+)\.(\d+)", version)
    known = (int(found[1]), int(found[2])) if found else (0, 0)
    if not OLDEST <= known <= TESTED and version not in _warned:
        _warned.add(version)
        warnings.warn(
            f"lmdeploy {version} is unknown to this version of lagent_llms, which was tested with "
            f"{TESTED[0]}.{TESTED[1]} and supports {OLDEST[0]}.{OLDEST[1]} and later",
            stacklevel=3,
        )
    return known
