"""The part of `JAXServer` that runs models of other libraries: parameters, mesh, generation functions."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ...errors import InvalidArgument, LLMError, UnsupportedParameter
from ...jax_engine import Engine, FunctionEngine, SamplingParams
from ...jax_engine.sharding import full_mesh
from .batch_generate import generate_batch
from .config import JAXServerConfig
from .generation_functions import accepted_arguments, generation_functions
from .partitioning import partition_rules, shard
from .text_tokenizer import TextTokenizer

__all__ = ["ForeignModel"]

#: Smallest padded length of a prompt, in tokens.
_MIN_WIDTH = 16
_SAMPLING_NAMES = ("temperature", "top_p", "top_k")


class ForeignModel:
    """The attributes and methods that EasyDeL's generation functions use.

    Attributes:
        config: The configuration.
        engine: Decodes requests; None while no model is loaded.
        model: The foreign model; None with the library's own engine.
        tokenizer: The foreign model's tokenizer, padding on the right.
        prefix_tokenizer: The same tokenizer, padding on the left.
        params: The foreign model's parameters, on the devices.
        rules: The PartitionSpec of each parameter.
        mesh: The device mesh.
        generate_function: Generates a chunk of tokens by sampling.
        greedy_generate_function: Generates a chunk of the most probable tokens.
    """

    config: JAXServerConfig
    engine: Engine | FunctionEngine | None = None
    model: Any = None
    tokenizer: Any = None
    prefix_tokenizer: Any = None
    params: Any = None
    rules: Any = None
    mesh: jax.sharding.Mesh | None = None
    generate_function: Any = None
    greedy_generate_function: Any = None
    _funcs_generated: bool = False
    _text_tokenizer: TextTokenizer

    def shard_params(self, params: Any, config_model: Any = None) -> Any:
        """Put `params` on the mesh; set `mesh`, `rules` and `params`.

        Args:
            params: The parameters, as nested dicts or a pytree of arrays.
            config_model: Its ``get_partition_rules()`` decides how they are split; None replicates them.

        Returns:
            The parameters on the devices.
        """
        self.mesh = full_mesh(self.config.mesh_axes_names, self.config.mesh_axes_shape)
        self.rules = partition_rules(config_model, params)
        self.params = shard(params, self.rules, self.mesh)
        return self.params

    def configure_generate_functions(self, model: Any, tokenizer: Any) -> None:
        """Set `generate_function`, `greedy_generate_function`, `tokenizer` and `prefix_tokenizer`.

        An override sets these attributes and ``_funcs_generated = True``. The functions take (parameters,
        input_ids, attention_mask), ids and mask of shape (B, T), and return ``max_compile_tokens`` new tokens
        per row.
        """
        if getattr(tokenizer, "pad_token", "none") is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer, self.prefix_tokenizer = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
        for copied, side in ((self.tokenizer, "right"), (self.prefix_tokenizer, "left")):
            copied.padding_side = copied.truncation_side = side
        self.generate_function, self.greedy_generate_function = generation_functions(
            model, tokenizer, self.config.max_compile_tokens
        )
        self._funcs_generated = True

    def generate(self, params: Any, input_ids: Any, attention_mask: Any, **settings: Any) -> Any:
        """Sample one chunk of tokens after each row.

        Args:
            params: The model's parameters; ignored by the library's own engine.
            input_ids: Token ids (B, T), padded on the left.
            attention_mask: 1 for a token, 0 for padding, (B, T).
            **settings: temperature, top_p and top_k, by default the configuration's; what `generate_function`
                does not accept is left out.

        Returns:
            Token ids, (B, ``max_compile_tokens``).

        Raises:
            LLMError: No model is loaded.
        """
        settings = {**{name: getattr(self.config, name) for name in _SAMPLING_NAMES}, **settings}
        if isinstance(self.engine, Engine):
            return self._generate_batch(input_ids, attention_mask, **settings)
        if self.generate_function is not None:
            names, _ = accepted_arguments(self.generate_function)
            settings = {"prng_key": jax.random.PRNGKey(secrets.randbits(32)), **settings}
            settings = {name: value for name, value in settings.items() if name in names}
        return self._call_on_mesh("generate_function", params, input_ids, attention_mask, **settings)

    def greedy_generate(self, params: Any, input_ids: Any, attention_mask: Any) -> Any:
        """Generate one chunk of the most probable tokens after each row; see `generate`."""
        if isinstance(self.engine, Engine):
            return self._generate_batch(input_ids, attention_mask, temperature=0)
        return self._call_on_mesh("greedy_generate_function", params, input_ids, attention_mask)

    def _generate_batch(self, input_ids: Any, attention_mask: Any, **settings: Any) -> Any:
        assert isinstance(self.engine, Engine)
        params = SamplingParams(max_new_tokens=self.config.max_compile_tokens, **settings)
        return generate_batch(self.engine, input_ids, attention_mask, params)

    def _call_on_mesh(self, name: str, *arguments: Any, **settings: Any) -> Any:
        if getattr(self, name) is None or self.mesh is None:
            raise LLMError(f"{name} is not set: the server has no model")
        with jax.set_mesh(self.mesh):
            return getattr(self, name)(*arguments, **settings)

    def _foreign_engine(self, model: Any, tokenizer: Any, *, max_queue: int | None = None) -> FunctionEngine:
        """Set the generation functions of `model`; return an engine that calls them."""
        self.model = model
        self.configure_generate_functions(model, tokenizer)
        if not self._funcs_generated or self.greedy_generate_function is None:
            raise InvalidArgument(
                "configure_generate_functions must set generate_function, greedy_generate_function and "
                "_funcs_generated",
                argument="model",
            )
        self._text_tokenizer = TextTokenizer(self.tokenizer or tokenizer)
        return FunctionEngine(
            type(model).__name__,
            self._text_tokenizer,
            self._generate_chunk,
            self._check_sampling,
            max_len=self.config.max_length,
            seed=self.config.seed,
            max_queue=max_queue,
        )

    def _generate_chunk(self, ids: Sequence[int], params: SamplingParams, seed: int) -> list[int]:
        """Generate the next chunk of one request, for `FunctionEngine`."""
        width = len(ids)
        if self.config.use_prefix_tokenizer:
            width = min(max(_MIN_WIDTH, 1 << (width - 1).bit_length()), self.config.max_length)
        assert self.mesh is not None
        # One equal row per device on the batch axes: a function may shard its batch over them.
        rows = int(np.prod([self.mesh.shape.get(axis, 1) for axis in ("dp", "fsdp")]))
        input_ids = np.full((rows, width), self._text_tokenizer.pad_id, np.int32)
        input_ids[:, width - len(ids) :] = ids
        mask = np.zeros((rows, width), np.int32)
        mask[:, width - len(ids) :] = 1
        if params.temperature == 0:
            output = self.greedy_generate(self.params, input_ids, mask)
        else:
            settings = {name: getattr(params, name) for name in _SAMPLING_NAMES}
            key = jax.random.PRNGKey(seed & 0xFFFFFFFF)
            output = self.generate(self.params, input_ids, mask, **settings, prng_key=key)
        new_ids: list[int] = np.asarray(output)[0].tolist()
        return new_ids

    def _check_sampling(self, params: SamplingParams) -> None:
        """Refuse a setting that `generate_function` lacks, unless it is the configuration's value."""
        names, _ = accepted_arguments(self.generate_function)
        for name in _SAMPLING_NAMES:
            value = getattr(params, name)
            if params.temperature and name not in names and value != getattr(self.config, name):
                raise UnsupportedParameter(
                    f"{name}={value!r}: generate_function takes no {name}; allowed is the configuration's "
                    f"{getattr(self.config, name)!r}, or temperature=0",
                    parameter=name,
                )
