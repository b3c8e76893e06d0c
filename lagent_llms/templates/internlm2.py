"""lagent's meta template of InternLM2, with named roles for plugins and the interpreter."""

from __future__ import annotations

from typing import Any

__all__ = ["INTERNLM2_META"]

_NAMES = {"interpreter": "<|interpreter|>", "plugin": "<|plugin|>"}


def _role(role: str, **begin: Any) -> dict[str, Any]:
    return {
        "role": role,
        "begin": {
            "with_name": f"<|im_start|>{role} name={{name}}\n",
            "without_name": f"<|im_start|>{role}\n",
            **begin,
        },
        "end": "<|im_end|>\n",
    }


INTERNLM2_META: list[dict[str, Any]] = [
    _role("system", name=dict(_NAMES)),
    _role("user"),
    _role("assistant", name=dict(_NAMES)),
    _role("environment", name=dict(_NAMES)),
]
