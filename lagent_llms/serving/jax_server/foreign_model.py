"""The half of `JAXServer` that runs models of other libraries: parameters, mesh, generation functions."""

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
from .batch_generate import continue_rows
from .config import JAXServerConfig
from .generation_functions import accepted_names, generation_functions
from .partitioning import partition_rules, shard
from .text_tokenizer import TextTokenizer

__all__ = ["ForeignModel"]

_SMALLEST_WIDTH = 16
_SETTINGS = ("temperature", "top_p", "top_k")


class ForeignModel:
    """What a generation function sees of the server.

    Attributes:
        config: How to decode.
        engine: What answers; None as long as there is no model.
        model: The model, None on our own engine.
        tokenizer: The model's tokenizer.
        prefix_tokenizer: The same, padding on the left.
        params: The model's parameters, on the devices.
        rules: How each of them is split (PartitionSpec).
        mesh: The devices.
        generate_function: Continues prompts by sampling.
        greedy_generate_function: Continues prompts with the most probable tokens.
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
    _text: TextTokenizer

    def shard_params(self, params: Any, config_model: Any = None) -> Any:
        """Put `params` on the mesh, split as ``config_model.get_partition_rules()`` says; sets `rules`."""
        self.mesh = full_mesh(self.config.mesh_axes_names, self.config.mesh_axes_shape)
        self.rules = partition_rules(config_model, params)
        self.params = shard(params, self.rules, self.mesh)
        return self.params

    def configure_generate_functions(self, model: Any, tokenizer: Any) -> None:
        """Set `generate_function`, `greedy_generate_function`, `tokenizer` and `prefix_tokenizer`.

        An override sets them itself, and ``_funcs_generated = True``. Functions take (parameters, input_ids,
        attention_mask), all of one width, and give ``max_compile_tokens`` new tokens a row.
        """
        if getattr(tokenizer, "pad_token", "none") is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer, self.prefix_tokenizer = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
        for one, side in ((self.tokenizer, "right"), (self.prefix_tokenizer, "left")):
            one.padding_side = one.truncation_side = side
        self.generate_function, self.greedy_generate_function = generation_functions(
            model, tokenizer, self.config.max_compile_tokens
        )
        self._funcs_generated = True

    def generate(self, params: Any, input_ids: Any, attention_mask: Any, **settings: Any) -> Any:
        """A chunk of sampled tokens after each row (B, T) of token ids, (B, max_compile_tokens).

        Args:
            params: The model's parameters; our own engine has its own, and does not look at these.
            input_ids: Token ids, padded on the left.
            attention_mask: 1 where a token is real.
            settings: How to sample, as far as the function takes it; the default is the configuration's.

        Raises:
            LLMError: There is no model.
        """
        given = {**{name: getattr(self.config, name) for name in _SETTINGS}, **settings}
        if isinstance(self.engine, Engine):
            return self._rows(input_ids, attention_mask, **given)
        if self.generate_function is not None:
            names, _ = accepted_names(self.generate_function)
            given = {"prng_key": jax.random.PRNGKey(secrets.randbits(32)), **given}
            given = {name: value for name, value in given.items() if name in names}
        return self._call("generate_function", params, input_ids, attention_mask, **given)

    def greedy_generate(self, params: Any, input_ids: Any, attention_mask: Any) -> Any:
        """`generate`, with the most probable token each time."""
        if isinstance(self.engine, Engine):
            return self._rows(input_ids, attention_mask, temperature=0)
        return self._call("greedy_generate_function", params, input_ids, attention_mask)

    def _rows(self, input_ids: Any, attention_mask: Any, **settings: Any) -> Any:
        assert isinstance(self.engine, Engine)
        params = SamplingParams(max_new_tokens=self.config.max_compile_tokens, **settings)
        return continue_rows(self.engine, input_ids, attention_mask, params)

    def _call(self, name: str, *arguments: Any, **settings: Any) -> Any:
        if getattr(self, name) is None or self.mesh is None:
            raise LLMError(f"there is no {name}: the server has no model")
        with jax.set_mesh(self.mesh):
            return getattr(self, name)(*arguments, **settings)

    def _foreign_engine(self, model: Any, tokenizer: Any) -> FunctionEngine:
        """The engine over the generation functions, once they are set."""
        self.model = model
        self.configure_generate_functions(model, tokenizer)
        if not self._funcs_generated or self.greedy_generate_function is None:
            raise InvalidArgument(
                "configure_generate_functions: it must set generate_function, greedy_generate_function and "
                "_funcs_generated",
                argument="model",
            )
        self._text = TextTokenizer(self.tokenizer or tokenizer)
        return FunctionEngine(
            type(model).__name__,
            self._text,
            self._chunk,
            self._check_sampling,
            max_len=self.config.max_length,
            seed=self.config.seed,
        )

    def _chunk(self, ids: Sequence[int], params: SamplingParams, seed: int) -> list[int]:
        """The engine's step."""
        width = len(ids)
        if self.config.use_prefix_tokenizer:
            width = min(max(_SMALLEST_WIDTH, 1 << (width - 1).bit_length()), self.config.max_length)
        assert self.mesh is not None
        # As many equal rows as the batch axes have devices: a function may split its batch over them.
        rows = int(np.prod([self.mesh.shape.get(axis, 1) for axis in ("dp", "fsdp")]))
        input_ids = np.full((rows, width), self._text.pad_id, np.int32)
        input_ids[:, width - len(ids) :] = ids
        mask = np.zeros((rows, width), np.int32)
        mask[:, width - len(ids) :] = 1
        if params.temperature == 0:
            found = self.greedy_generate(self.params, input_ids, mask)
        else:
            settings = {name: getattr(params, name) for name in _SETTINGS}
            key = jax.random.PRNGKey(seed & 0xFFFFFFFF)
            found = self.generate(self.params, input_ids, mask, **settings, prng_key=key)
        new: list[int] = np.asarray(found)[0].tolist()
        return new

    def _check_sampling(self, params: SamplingParams) -> None:
        """Refuse what a function of the user's own does not take and the configuration does not say."""
        names, _ = accepted_names(self.generate_function)
        for name in _SETTINGS:
            value = getattr(params, name)
            if params.temperature and name not in names and value != getattr(self.config, name):
                raise UnsupportedParameter(
                    f"the generation function takes no {name}: allowed is the configuration's "
                    f"{getattr(self.config, name)!r}, or temperature=0",
                    parameter=name,
                )
