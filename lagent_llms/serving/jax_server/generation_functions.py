"""Generation functions for a model of another library, chosen by the methods the model has.

A model has ``generate(input_ids, …)``, as those of EasyDeL and transformers' Flax do, or is called for
logits. Each call passes its parameters: as ``params=``, to ``apply``, or merged into an nnx module.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ...errors import InvalidArgument
from ...jax_engine.sampling import SamplingTensors, sample_tokens

__all__ = ["accepted_arguments", "default_params", "generation_functions"]

#: (parameters, input_ids, attention_mask) -> new token ids (B, chunk); may take sampling keywords as well.
GenerateFunction = Callable[..., Any]

#: Compiled variants of a model's `generate` kept, one per combination of sampling settings.
_MAX_COMPILED = 16


def generation_functions(model: Any, tokenizer: Any, chunk: int) -> tuple[GenerateFunction, GenerateFunction]:
    """Make the sampling and the greedy generation function of a model.

    Args:
        model: A model with ``generate`` or ``apply``, or a callable one; see the module's docstring.
        tokenizer: Has ``eos_token_id``; ``pad_token_id`` and ``bos_token_id`` are optional.
        chunk: New tokens per call.

    Raises:
        InvalidArgument: The model has neither ``generate`` nor ``apply`` and is not callable.
    """
    bind = _make_bind(model)
    if callable(getattr(model, "generate", None)):
        return _from_generate(bind, model, tokenizer, chunk)
    if not callable(model) and not callable(getattr(model, "apply", None)):
        raise InvalidArgument(
            f"model={type(model).__name__}: allowed is a model with `generate` or `apply`, "
            "or a callable that returns logits",
            argument="model",
        )
    return _from_logits(bind, tokenizer, chunk)


def default_params(model: Any) -> Any:
    """The parameters stored in the model itself; None if it stores none."""
    nnx = _nnx_module(model)
    return getattr(model, "params", None) if nnx is None else nnx.state(model)


def accepted_arguments(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The argument names of `function`, and True if it has ``**kwargs`` as well."""
    arguments = inspect.signature(function).parameters.values()
    names = frozenset(
        item.name for item in arguments if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    )
    return names, any(item.kind is item.VAR_KEYWORD for item in arguments)


@dataclass(frozen=True)
class _GenerationConfig:
    """Replaces transformers' GenerationConfig where transformers is not installed."""

    max_new_tokens: int
    eos_token_id: Any
    pad_token_id: Any
    bos_token_id: Any
    do_sample: bool
    num_beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 50


class _Sampling(NamedTuple):
    """The sampling settings of one call."""

    temperature: float
    top_p: float
    top_k: int | None
    prng_key: Any


def _with_keywords(sample: Callable[[Any, Any, Any, _Sampling], Any]) -> GenerateFunction:
    """Give `sample` named keywords: the server passes the settings that a function's signature names."""

    def generate(
        parameters: Any,
        input_ids: Any,
        attention_mask: Any,
        *,
        temperature: float,
        top_p: float,
        top_k: int | None,
        prng_key: Any,
    ) -> Any:
        return sample(parameters, input_ids, attention_mask, _Sampling(temperature, top_p, top_k, prng_key))

    return generate


def _nnx_module(model: Any) -> Any:
    """Return flax.nnx if `model` is an nnx module (flax is then already imported), else None."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(model, nnx.Module) else None


def _make_bind(model: Any) -> Callable[[Any], Any]:
    """Make a function from parameters to a model that holds them.

    It returns models that are not nnx modules unchanged: their parameters are passed to each call.
    """
    nnx = _nnx_module(model)
    if nnx is None:
        return lambda parameters: model
    graph, state = nnx.split(model)

    def bind(parameters: Any) -> Any:
        if isinstance(parameters, nnx.State):
            return nnx.merge(graph, nnx.merge_state(state, parameters))
        copied = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(copied, parameters)  # nested dicts of arrays
        return nnx.merge(graph, copied)

    return bind


def _select(
    function: Callable[..., Any], available: dict[str, Any], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Select the arguments that `function` names; those in `optional` also if it has ``**kwargs``."""
    names, has_kwargs = accepted_arguments(function)
    return {
        name: value for name, value in available.items() if name in names or (has_kwargs and name in optional)
    }


def _from_generate(
    bind: Callable[[Any], Any], model: Any, tokenizer: Any, chunk: int
) -> tuple[GenerateFunction, GenerateFunction]:
    params_argument = () if _nnx_module(model) is not None else ("params",)
    eos, pad = tokenizer.eos_token_id, getattr(tokenizer, "pad_token_id", None)
    special = {"eos_token_id": eos, "pad_token_id": eos if pad is None else pad}
    special["bos_token_id"] = getattr(tokenizer, "bos_token_id", None)

    @lru_cache(maxsize=_MAX_COMPILED)
    def compiled(**settings: Any) -> GenerateFunction:
        config = _generation_config(max_new_tokens=chunk, **special, **settings)

        @jax.jit
        def run(parameters: Any, input_ids: Any, attention_mask: Any, prng_key: Any) -> Any:
            bound = bind(parameters)
            plain = {"max_new_tokens": chunk, **special, **settings}
            available = {
                "attention_mask": attention_mask,
                "params": parameters,
                "generation_config": config,
                "prng_key": prng_key,
            }
            optional = ("attention_mask", "generation_config", *params_argument)
            keywords = _select(bound.generate, available, optional)
            if "generation_config" not in keywords:
                keywords |= _select(bound.generate, plain)
            output = bound.generate(input_ids, **keywords)
            return getattr(output, "sequences", output)[:, input_ids.shape[1] :]

        return run

    def sampled(parameters: Any, input_ids: Any, attention_mask: Any, sampling: _Sampling) -> Any:
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or 0,
        }
        run = compiled(do_sample=True, **settings)
        return run(parameters, input_ids, attention_mask, sampling.prng_key)

    def greedy(parameters: Any, input_ids: Any, attention_mask: Any) -> Any:
        return compiled(do_sample=False)(parameters, input_ids, attention_mask, jax.random.PRNGKey(0))

    return _with_keywords(sampled), greedy


def _generation_config(**settings: Any) -> Any:
    try:
        from transformers import GenerationConfig
    except ModuleNotFoundError:
        return _GenerationConfig(**settings)
    return GenerationConfig(num_beams=1, **settings)  # type: ignore[no-untyped-call]


def _logits(bound: Any, parameters: Any, ids: Any, mask: Any) -> Any:
    """Call a model for its logits, (B, T, V)."""
    call = bound if inspect.isroutine(bound) else type(bound).__call__
    names, _ = accepted_arguments(call)
    extra = {"attention_mask": mask} if "attention_mask" in names else {}
    if "params" in names:
        output = bound(ids, params=parameters, **extra)
    elif callable(getattr(bound, "apply", None)):
        output = bound.apply(parameters, ids, **extra)
    else:
        output = bound(ids, **extra)
    output = getattr(output, "logits", output)
    return output[0] if isinstance(output, tuple) else output


def _from_logits(
    bind: Callable[[Any], Any], tokenizer: Any, chunk: int
) -> tuple[GenerateFunction, GenerateFunction]:
    eos_ids = jnp.atleast_1d(jnp.array(tokenizer.eos_token_id))

    @partial(jax.jit, static_argnames="greedy")
    def run(
        parameters: Any, input_ids: Any, attention_mask: Any, settings: Any, prng_key: Any, *, greedy: bool
    ) -> Any:
        bound = bind(parameters)
        rows, width = input_ids.shape
        # Roll prompts to the left edge: padding on the right does not affect a causal model, masked or not.
        ids = jax.vmap(jnp.roll)(input_ids, -jnp.argmax(attention_mask, axis=1))
        ids = jnp.pad(ids, ((0, 0), (0, chunk)))
        lengths = attention_mask.sum(axis=1)
        positions = jnp.arange(width + chunk)

        def unfinished(state: Any) -> Any:
            return (state[0] < chunk) & ~jnp.all(state[2])

        def step(state: Any) -> Any:
            index, ids, done = state
            mask = (positions < (lengths + index)[:, None]).astype(jnp.int32)
            logits = _logits(bound, parameters, ids, mask)
            last = jnp.take_along_axis(logits, (lengths + index - 1)[:, None, None], axis=1)[:, 0]
            sampling = None if greedy else _sample_rows(settings, prng_key, rows, last.shape[-1])
            token = sample_tokens(last.astype(jnp.float32), sampling, jnp.full(rows, index))
            ids = ids.at[jnp.arange(rows), lengths + index].set(token)
            return index + 1, ids, done | jnp.any(token[:, None] == eos_ids, axis=1)

        _, ids, _ = lax.while_loop(unfinished, step, (0, ids, jnp.zeros(rows, bool)))
        return jax.vmap(lambda row, start: lax.dynamic_slice(row, (start,), (chunk,)))(ids, lengths)

    def sampled(parameters: Any, input_ids: Any, attention_mask: Any, sampling: _Sampling) -> Any:
        top_k = jnp.int32(sampling.top_k or 1 << 30)
        settings = (jnp.float32(sampling.temperature), jnp.float32(sampling.top_p), top_k)
        return run(parameters, input_ids, attention_mask, settings, sampling.prng_key, greedy=False)

    def greedy(parameters: Any, input_ids: Any, attention_mask: Any) -> Any:
        return run(parameters, input_ids, attention_mask, None, None, greedy=True)

    return _with_keywords(sampled), greedy


def _sample_rows(settings: Any, prng_key: Any, rows: int, vocab: int) -> SamplingTensors:
    temperature, top_p, top_k = (jnp.broadcast_to(value, (rows,)) for value in settings)
    return SamplingTensors(
        temperature=temperature,
        top_k=jnp.minimum(top_k, vocab),
        top_p=top_p,
        min_p=jnp.zeros(rows),
        penalty=jnp.ones(rows),
        key=jnp.broadcast_to(prng_key, (rows, 2)).astype(jnp.uint32),
        seen=None,
    )
