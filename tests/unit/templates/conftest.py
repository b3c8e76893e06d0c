"""Reference renderings for the tests of families."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data" / "templates"
#: Date in the reference renderings.
DAY = datetime(2025, 1, 15)


def load(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / name).read_bytes()))
