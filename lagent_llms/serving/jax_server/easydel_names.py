"""Names of EasyDeL's server that came before or after those of `JAXServer`: they work, or say what to use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import UnknownParameter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CONFIG_HINTS", "EasyDeLNames"]

#: Attributes of EasyDeL's configurations that are no keys here: what to use.
CONFIG_HINTS: Mapping[str, str] = {
    "batch_size": "requests are batched as they arrive",
    "max_sequence_length": "the name here is max_length",
    "max_stream_tokens": "the name here is max_compile_tokens",
    "pre_compile": "compiled graphs are kept in the compilation cache",
    "generation_ps": "config_model.get_partition_rules() says how parameters are split",
    "sample": "the argument greedy of process says whether to sample",
    "repetition_penalty": "the OpenAI routes take it with a request",
    "eos_token_id": "the model's own end tokens are used",
    "pad_token_id": "the tokenizer's own is used",
    "bos_token_id": "the tokenizer's own is used",
}
#: Attributes of EasyDeL's servers that do not exist here: what to use.
_HINTS: Mapping[str, str] = {
    "sample": "process",
    "server_config": "config",
    "launch": "fire, and gradio_app_chat.launch for a page alone",
    "compile": "nothing: graphs are compiled when they are first needed, and kept in the compilation cache",
    "process_gradio_chat": "stream_chat, which the chat page calls",
    "sample_gradio_chat": "stream_chat, which the chat page calls",
    "process_gradio_instruct": "stream_instruct, which the instruct page calls",
    "sample_gradio_instruct": "stream_instruct, which the instruct page calls",
    "load_from_torch": "from_torch_pretrained, or load",
}


class EasyDeLNames:
    """The constructors of EasyDeL's later servers, and hints for attributes with other names."""

    @classmethod
    def from_torch_pretrained(
        cls,
        server_config: Any = None,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a directory of a PyTorch checkpoint; the same as ``load(path, config=server_config)``.

        Args:
            server_config: See `JAXServer.load`.
            pretrained_model_name_or_path: The model directory, in Hugging Face format.
            **kwargs: No argument of EasyDeL's models is taken: the configuration has `dtype` and the mesh.

        Raises:
            UnknownParameter: A further argument was given.
            ModelLoadError: The model cannot be loaded.
        """
        if kwargs:
            raise UnknownParameter(
                f"from_torch_pretrained: unknown parameter {next(iter(kwargs))!r}; server_config has dtype, "
                "mesh_axes_names and mesh_axes_shape, and no other argument of EasyDeL's models is needed"
            )
        loaded: Self = getattr(cls, "load")(pretrained_model_name_or_path, config=server_config)  # noqa: B009
        return loaded

    @classmethod
    def from_parameters(
        cls,
        model: Any,
        config_model: Any = None,
        tokenizer: Any = None,
        params: Any = None,
        server_config: Any = None,
        add_params_field: bool = True,
    ) -> Self:
        """Load a model of another library; the same as `JAXServer.load_from_params`."""
        loaded: Self = getattr(cls, "load_from_params")(  # noqa: B009
            model, config_model, server_config, tokenizer, params, add_params_field
        )
        return loaded

    def __getattr__(self, name: str) -> NoReturn:
        hint = f"; use {_HINTS[name]}" if name in _HINTS else ""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self
        )
