"""The classes of lagent.llms under lagent's names and arguments: `from lagent_llms import GPTAPI`.

The table says what each class is here; docs/lagent.md shows it to users. A class is imported when it is used.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["COUNTERPARTS", "SAME_NAMES", "Counterpart", "counterpart"]


class Counterpart(NamedTuple):
    """What a class of lagent is here.

    Attributes:
        ours: This library's own class.
        module: The module in this package with the class under lagent's name; '' if there is none.
        reason: Without a module: why there is none, and what to use.
    """

    ours: str
    module: str = ""
    reason: str = ""


def _twins(names: str, ours: str, module: str = "", reason: str = "") -> dict[str, Counterpart]:
    """The rows of classes and of their asynchronous twins."""
    return {
        prefix + name: Counterpart(prefix + ours, module, reason)
        for name in names.split()
        for prefix in ("", "Async")
    }


#: Names of lagent.llms that this library has with the same arguments.
SAME_NAMES = (
    "AsyncBaseLLM",
    "AsyncLMDeployClient",
    "AsyncLMDeployPipeline",
    "AsyncLMDeployServer",
    "BaseLLM",
    "INTERNLM2_META",
    "LMDeployClient",
    "LMDeployPipeline",
    "LMDeployServer",
)

#: All other classes of lagent.llms, by name.
COUNTERPARTS: Mapping[str, Counterpart] = {
    **_twins("GPTAPI", "OpenAIClient", "openai"),
    **_twins("HFTransformer HFTransformerCasualLM HFTransformerChat", "HFTransformers", "transformers"),
    **_twins("BaseAPILLM", "BaseLLM", "base_api"),
    **_twins("VllmModel", "VLLMPipeline", "vllm"),
    **_twins(
        "ClaudeAPI",
        "OpenAIClient",
        reason="Anthropic's protocol is not spoken here; use OpenAIClient with an OpenAI-compatible address "
        "of the model, such as base_url='https://api.anthropic.com/v1'",
    ),
    **_twins(
        "SensenovaAPI SENSENOVA_API",
        "OpenAIClient",
        reason="SenseNova's protocol is not spoken here; use OpenAIClient with an OpenAI-compatible address "
        "of the model",
    ),
}


def counterpart(name: str, stacklevel: int = 2) -> Any:
    """Import the class under lagent's `name`, with a warning that names ours.

    Args:
        name: A name of `COUNTERPARTS`.
        stacklevel: Of the warning, as `warnings.warn` counts it: 2 is the caller of this function.

    Raises:
        ImportError: It has no counterpart; the message says what to use.
    """
    row = COUNTERPARTS[name]
    if not row.module:
        raise ImportError(f"lagent's {name} has no counterpart in lagent_llms: {row.reason}")
    found = getattr(importlib.import_module(f".{row.module}", __name__), name)
    # "from lagent_llms import NAME" asks twice, first for the import machinery, which needs no warning.
    if sys._getframe(stacklevel - 1).f_globals.get("__name__") != "importlib._bootstrap":
        text = f"{name} is lagent's name; the class of lagent_llms is {row.ours}"
        warnings.warn(text, DeprecationWarning, stacklevel)
    return found
