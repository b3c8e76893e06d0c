"""Functions that continue prompts with a model of any kind, known only by what it can do.

A model has ``generate(input_ids, …)``, as those of EasyDeL and transformers' Flax have, or is called for
logits. Its parameters are given with each call: as ``params=``, to ``apply``, or merged into an nnx module.
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
from ...jax_engine.sampling import SampleRows, choose

__all__ = ["accepted_names", "default_params", "generation_functions"]

#: (parameters, input_ids, attention_mask) -> new tokens (B, chunk); ours also take how to sample.
GenerateFunction = Callable[..., Any]

_SETTINGS = 16  # compiled variants of one model's `generate` that are kept


def generation_functions(model: Any, tokenizer: Any, chunk: int) -> tuple[GenerateFunction, GenerateFunction]:
    """A sampling and a greedy function that give `chunk` new tokens a call.

    Args:
        model: See the module.
        tokenizer: Knows ``eos_token_id``, ``pad_token_id`` and ``bos_token_id``.
        chunk: Tokens a call.

    Raises:
        InvalidArgument: The model has neither ``generate`` nor ``apply`` and cannot be called.
    """
    bind = _binder(model)
    if callable(getattr(model, "generate", None)):
        return _by_generate(bind, model, tokenizer, chunk)
    if not callable(model) and not callable(getattr(model, "apply", None)):
        raise InvalidArgument(
            f"model={type(model).__name__}: allowed is one with `generate`, or called for logits",
            argument="model",
        )
    return _by_logits(bind, tokenizer, chunk)


def default_params(model: Any) -> Any:
    """The parameters that a model carries itself; None when it carries none."""
    nnx = _nnx_of(model)
    return getattr(model, "params", None) if nnx is None else nnx.state(model)


def accepted_names(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """Names of the arguments of `function`, and whether it takes any other by keyword."""
    parameters = inspect.signature(function).parameters.values()
    names = frozenset(
        item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    )
    return names, any(item.kind is item.VAR_KEYWORD for item in parameters)


@dataclass(frozen=True)
class _Config:
    """What transformers' GenerationConfig would say, where transformers is not installed."""

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
    """How one call samples."""

    temperature: float
    top_p: float
    top_k: int | None
    prng_key: Any


def _with_keywords(sampled: Callable[[Any, Any, Any, _Sampling], Any]) -> GenerateFunction:
    """`sampled` as it is called: the server gives a function what its signature names."""

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
        return sampled(parameters, input_ids, attention_mask, _Sampling(temperature, top_p, top_k, prng_key))

    return generate


def _nnx_of(model: Any) -> Any:
    """flax.nnx, if `model` is one of its modules (then it is imported already)."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(model, nnx.Module) else None


def _binder(model: Any) -> Callable[[Any], Any]:
    """From parameters to the model that has them; other than nnx modules get them with each call."""
    nnx = _nnx_of(model)
    if nnx is None:
        return lambda parameters: model
    graph, state = nnx.split(model)

    def bind(parameters: Any) -> Any:
        if isinstance(parameters, nnx.State):
            return nnx.merge(graph, nnx.merge_state(state, parameters))
        own = jax.tree.map(lambda leaf: leaf, state)  # nested dicts of arrays
        nnx.replace_by_pure_dict(own, parameters)
        return nnx.merge(graph, own)

    return bind


def _given(
    function: Callable[..., Any], offered: dict[str, Any], free: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What of `offered` the function names, and those of `free` also when it takes any keyword."""
    names, takes_any = accepted_names(function)
    return {name: value for name, value in offered.items() if name in names or (takes_any and name in free)}


def _by_generate(
    bind: Callable[[Any], Any], model: Any, tokenizer: Any, chunk: int
) -> tuple[GenerateFunction, GenerateFunction]:
    of_params = () if _nnx_of(model) is not None else ("params",)
    eos, pad = tokenizer.eos_token_id, getattr(tokenizer, "pad_token_id", None)
    special = {"eos_token_id": eos, "pad_token_id": eos if pad is None else pad}
    special["bos_token_id"] = getattr(tokenizer, "bos_token_id", None)

    @lru_cache(maxsize=_SETTINGS)
    def compiled(**settings: Any) -> GenerateFunction:
        config = _generation_config(max_new_tokens=chunk, **special, **settings)

        @jax.jit
        def run(parameters: Any, input_ids: Any, attention_mask: Any, prng_key: Any) -> Any:
            bound = bind(parameters)
            plain = {"max_new_tokens": chunk, **special, **settings}
            offered = {
                "attention_mask": attention_mask,
                "params": parameters,
                "generation_config": config,
                "prng_key": prng_key,
            }
            free = ("attention_mask", "generation_config", *of_params)
            given = _given(bound.generate, offered, free)
            if "generation_config" not in given:
                given |= _given(bound.generate, plain)
            found = bound.generate(input_ids, **given)
            return getattr(found, "sequences", found)[:, input_ids.shape[1] :]

        return run

    def sampled(parameters: Any, input_ids: Any, attention_mask: Any, how: _Sampling) -> Any:
        run = compiled(do_sample=True, temperature=how.temperature, top_p=how.top_p, top_k=how.top_k or 0)
        return run(parameters, input_ids, attention_mask, how.prng_key)

    def greedy(parameters: Any, input_ids: Any, attention_mask: Any) -> Any:
        return compiled(do_sample=False)(parameters, input_ids, attention_mask, jax.random.PRNGKey(0))

    return _with_keywords(sampled), greedy


def _generation_config(**settings: Any) -> Any:
    try:
        from transformers import GenerationConfig
    except ModuleNotFoundError:
        return _Config(**settings)
    return GenerationConfig(num_beams=1, **settings)  # type: ignore[no-untyped-call]


def _logits(bound: Any, parameters: Any, ids: Any, mask: Any) -> Any:
    """The logits (B, T, V) of a model that is called for them."""
    call = bound if inspect.isroutine(bound) else type(bound).__call__
    names, _ = accepted_names(call)
    extra = {"attention_mask": mask} if "attention_mask" in names else {}
    if "params" in names:
        found = bound(ids, params=parameters, **extra)
    elif callable(getattr(bound, "apply", None)):
        found = bound.apply(parameters, ids, **extra)
    else:
        found = bound(ids, **extra)
    found = getattr(found, "logits", found)
    return found[0] if isinstance(found, tuple) else found


def _by_logits(
    bind: Callable[[Any], Any], tokenizer: Any, chunk: int
) -> tuple[GenerateFunction, GenerateFunction]:
    ends = jnp.atleast_1d(jnp.array(tokenizer.eos_token_id))

    @partial(jax.jit, static_argnames="greedy")
    def run(
        parameters: Any, input_ids: Any, attention_mask: Any, settings: Any, prng_key: Any, *, greedy: bool
    ) -> Any:
        bound = bind(parameters)
        rows, width = input_ids.shape
        # Prompts begin at 0: pads on the right change nothing for a causal model, whatever it knows of masks.
        ids = jax.vmap(jnp.roll)(input_ids, -jnp.argmax(attention_mask, axis=1))
        ids = jnp.pad(ids, ((0, 0), (0, chunk)))
        lengths = attention_mask.sum(axis=1)
        places = jnp.arange(width + chunk)

        def go_on(state: Any) -> Any:
            return (state[0] < chunk) & ~jnp.all(state[2])

        def step(state: Any) -> Any:
            index, ids, done = state
            mask = (places < (lengths + index)[:, None]).astype(jnp.int32)
            scores = _logits(bound, parameters, ids, mask)
            last = jnp.take_along_axis(scores, (lengths + index - 1)[:, None, None], axis=1)[:, 0]
            sample = None if greedy else _sample_rows(settings, prng_key, rows, last.shape[-1])
            token = choose(last.astype(jnp.float32), sample, jnp.full(rows, index))
            ids = ids.at[jnp.arange(rows), lengths + index].set(token)
            return index + 1, ids, done | jnp.any(token[:, None] == ends, axis=1)

        _, ids, _ = lax.while_loop(go_on, step, (0, ids, jnp.zeros(rows, bool)))
        return jax.vmap(lambda row, start: lax.dynamic_slice(row, (start,), (chunk,)))(ids, lengths)

    def sampled(parameters: Any, input_ids: Any, attention_mask: Any, how: _Sampling) -> Any:
        settings = (jnp.float32(how.temperature), jnp.float32(how.top_p), jnp.int32(how.top_k or 1 << 30))
        return run(parameters, input_ids, attention_mask, settings, how.prng_key, greedy=False)

    def greedy(parameters: Any, input_ids: Any, attention_mask: Any) -> Any:
        return run(parameters, input_ids, attention_mask, None, None, greedy=True)

    return _with_keywords(sampled), greedy


def _sample_rows(settings: Any, prng_key: Any, rows: int, vocab: int) -> SampleRows:
    temperature, top_p, top_k = (jnp.broadcast_to(value, (rows,)) for value in settings)
    return SampleRows(
        temperature=temperature,
        top_k=jnp.minimum(top_k, vocab),
        top_p=top_p,
        min_p=jnp.zeros(rows),
        penalty=jnp.ones(rows),
        key=jnp.broadcast_to(prng_key, (rows, 2)).astype(jnp.uint32),
        seen=None,
    )
