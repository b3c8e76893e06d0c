"""Find the class of a backend by its name; its module is imported then.

A name is one of `BACKENDS`, an entry point of the group ``lagent_llms.backends``, or a dotted path
(``my_package.module.MyLLM`` or ``my_package.module:MyLLM``).
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

from .core.llm import LLMCore
from .errors import ConfigError, nearest

__all__ = ["BACKENDS", "ENTRY_POINT_GROUP", "Backend", "find_backend"]


class Backend(NamedTuple):
    """Where a built-in backend is defined and what it needs.

    Attributes:
        module: The module of the class and, with ``Async`` before its name, of its asynchronous twin.
        summary: What it connects to, in a few words.
        extra: The extra of lagent_llms that installs its packages, '' when the core is enough.
        packages: The packages it imports beyond the core.
        remote: Whether it is a client of a running server, with a method ``models()``.
    """

    module: str
    summary: str
    extra: str = ""
    packages: tuple[str, ...] = ()
    remote: bool = False


#: The built-in backends, by class name.
BACKENDS: dict[str, Backend] = {
    "LMDeployClient": Backend(
        "lagent_llms.backends.lmdeploy.client", "lmdeploy's api_server over HTTP", remote=True
    ),
    "LMDeployPipeline": Backend(
        "lagent_llms.backends.lmdeploy.pipeline",
        "a model in this process, on lmdeploy (GPU)",
        "lmdeploy",
        ("lmdeploy",),
    ),
    "LMDeployServer": Backend(
        "lagent_llms.backends.lmdeploy.server",
        "lmdeploy's api_server in a child process",
        "lmdeploy",
        ("lmdeploy",),
    ),
    "TritonClient": Backend(
        "lagent_llms.backends.triton.client",
        "a model behind Triton Inference Server (TensorRT-LLM, vLLM, lmdeploy)",
        "triton",
        ("tritonclient", "tokenizers"),
        remote=True,
    ),
    "LoRAX": Backend("lagent_llms.backends.lorax.backend", "a LoRAX server over HTTP"),
    "OpenAIClient": Backend(
        "lagent_llms.backends.openai.client",
        "any server with OpenAI's routes (OpenAI, vLLM, SGLang, llama.cpp, Ollama, TGI)",
        remote=True,
    ),
    "JAXClient": Backend("lagent_llms.backends.jax.client", "a JAXServer over HTTP"),
    "JAXPipeline": Backend(
        "lagent_llms.backends.jax.pipeline",
        "a model in this process, on JAX (CPU, GPU, TPU)",
        "jax",
        ("jax", "numpy", "safetensors", "tokenizers", "jinja2"),
    ),
    "HFTransformers": Backend(
        "lagent_llms.backends.transformers.pipeline",
        "a model in this process, on Hugging Face's transformers",
        "transformers",
        ("torch", "transformers", "accelerate", "jinja2"),
    ),
    "VLLMPipeline": Backend(
        "lagent_llms.backends.vllm.pipeline",
        "a model in this process, on vLLM",
        "vllm",
        ("vllm", "transformers", "jinja2"),
    ),
    "FallbackLLM": Backend("lagent_llms.backends.routing.llms", "several backends, tried in order"),
    "RouterLLM": Backend("lagent_llms.backends.routing.llms", "several backends, by load"),
    "ReplayLLM": Backend("lagent_llms.testing.replay", "the recorded calls of a journal, for tests"),
}

ENTRY_POINT_GROUP = "lagent_llms.backends"


def find_backend(backend: str | type, *, asynchronous: bool = False) -> type[LLMCore]:
    """Find the class that ``type`` of a configuration means.

    Args:
        backend: A name, or the class itself (as in lagent's ``dict(type=LMDeployClient, …)``).
        asynchronous: Return the twin with ``Async`` before its name.

    Raises:
        ConfigError: The name is unknown, there is no twin, or the class is no backend.
    """
    if isinstance(backend, str):
        module_name, _, name = _locate(backend).partition(":")
        found = _attribute(module_name, name, backend)
    else:
        found, module_name = backend, getattr(backend, "__module__", "")
    if not (isinstance(found, type) and issubclass(found, LLMCore)):
        raise ConfigError(f"type={backend!r} is no backend: expected a subclass of BaseLLM or AsyncBaseLLM")
    if asynchronous and not found.__name__.startswith("Async"):
        twin = _attribute(module_name, f"Async{found.__name__}", f"Async{found.__name__}")
        assert isinstance(twin, type)
        return twin
    return found


def _locate(name: str) -> str:
    """``module:Class`` of a registered name, entry point or dotted path."""
    plain = name.removeprefix("Async")
    if plain in BACKENDS:
        return f"{BACKENDS[plain].module}:{name}"
    from importlib.metadata import entry_points  # here: it is slow to import

    plugins = {item.name: item for item in entry_points(group=ENTRY_POINT_GROUP)}
    if name in plugins:
        return plugins[name].value
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if attribute and module and not module.startswith("."):
        return f"{module}:{attribute}"
    known = sorted({*BACKENDS, *plugins})
    raise ConfigError(
        f"unknown backend {name!r}{nearest(name, known)}; known are {', '.join(known)}, "
        "or give a dotted path to a class"
    )


def _attribute(module_name: str, name: str, asked: str) -> object:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(f"type={asked!r}: there is no module {error.name!r}") from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ConfigError(f"type={asked!r}: module {module_name!r} has no {name!r}") from error
